"""The journal of a search: one order for all processes, and restored after Redis was wiped."""

from optuna import create_study
from optuna.storages import JournalStorage
from redis import Redis

from worker.search.redis_journal import RedisJournal


def journal(redis: Redis) -> RedisJournal:
    return RedisJournal(redis, "vitrine:search:test")


def test_lines_are_read_from_any_number_on(redis: Redis) -> None:
    journal(redis).append_logs([{"line": number} for number in range(1500)])
    journal(redis).append_logs([{"line": 1500}])
    assert [entry["line"] for entry in journal(redis).read_logs(498)] == [*range(498, 1501)]
    assert list(journal(redis).read_logs(1501)) == []


def test_two_processes_see_one_study(redis: Redis) -> None:
    studies = [
        create_study(
            study_name="shared", storage=JournalStorage(journal(redis)), load_if_exists=True
        )
        for _ in range(2)
    ]
    asked = [study.ask() for study in studies * 3]
    assert [trial.number for trial in asked] == [0, 1, 2, 3, 4, 5]
    studies[0].tell(asked[1].number, 0.5)
    assert [trial.value for trial in studies[1].trials if trial.value is not None] == [0.5]


def test_a_wiped_redis_is_given_its_lines_again(redis: Redis) -> None:
    written = journal(redis)
    written.append_logs([{"line": 0}, {"line": 1}])
    kept = written.dump()
    written.restore(kept)  # the list exists: nothing is appended twice
    redis.flushall()
    written.restore(kept)
    assert [entry["line"] for entry in written.read_logs(0)] == [0, 1]
    written.delete()
    written.restore(b"")
    assert list(written.read_logs(0)) == []


def test_a_search_that_nobody_goes_on_with_is_forgotten(redis: Redis) -> None:
    journal(redis).append_logs([{"line": 0}])
    assert 0 < redis.ttl("vitrine:search:test") <= 30 * 86_400
