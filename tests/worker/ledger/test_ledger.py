"""The ledger: the transitions of a job, and fencing of stale attempts."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.history import history_of
from worker.attempt.attempt import Attempt
from worker.ledger.ledger import LeaseLost, Ledger
from worker.ledger.records import OPEN, JobNotFound
from worker.queue.queue import JobQueue
from worker.schemas.jobs import (
    IllegalMove,
    JobProgress,
    JobRecord,
    JobStatus,
    made_at,
    move,
    new_id,
    now,
)
from worker.schemas.requests import TrainJob
from worker.storage import Storage, StorageError

REQUEST = TrainJob(dataset="ds_00000000000000sample", model="m")


@pytest.fixture
def ledger(jobs: JobQueue) -> Ledger:
    return jobs.ledger


@pytest.fixture
def record(ledger: Ledger) -> JobRecord:
    """A queued job."""
    record = JobRecord.new("train", REQUEST)
    assert ledger.create(record)
    return record


def claimed(ledger: Ledger, record: JobRecord, holder: str = "delivery-1") -> Attempt:
    running = ledger.claim(record.id, holder)
    assert running is not None
    return Attempt(ledger, running)


def test_a_created_job_is_durable_and_queued(ledger: Ledger, storage: Storage) -> None:
    record = JobRecord.new("train", REQUEST)
    ledger.create(record)
    ledger.leases.redis.flushall()
    assert Ledger(storage, ledger.leases, ledger.events).fetch(record.id) == record
    assert (record.status, record.attempt) == ("queued", 1)
    assert not ledger.create(JobRecord.new("train", REQUEST, record.id))


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(JobNotFound):
        ledger.fetch("job_00000000000000000000")


def test_a_job_is_claimed_once(ledger: Ledger, record: JobRecord) -> None:
    assert ledger.claim(record.id, "delivery-1") is not None
    assert ledger.claim(record.id, "delivery-2") is None
    assert ledger.records.read(record.id).held_by == "delivery-1"


def test_of_two_processes_that_claim_at_one_moment_storage_lets_one(
    ledger: Ledger, storage: Storage, record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Ledger(storage, ledger.leases, ledger.events)
    monkeypatch.setattr(
        slow.records, "read", lambda _: record
    )  # what it saw before the other moved
    assert ledger.claim(record.id, "fast") is not None
    assert slow.claim(record.id, "slow") is None


def test_live_progress_is_shown_and_kept_at_the_end(ledger: Ledger, record: JobRecord) -> None:
    attempt = claimed(ledger, record)
    attempt.report("training", JobProgress(step=5, total=10, percent=50), {"loss": 1.5})
    shown = ledger.fetch(record.id)
    assert (shown.stage, shown.progress.percent, shown.metrics) == ("training", 50, {"loss": 1.5})
    attempt.succeed({"model": "m"})
    ended = ledger.fetch(record.id)
    assert (ended.status, ended.metrics, ended.result) == (
        "succeeded", {"loss": 1.5}, {"model": "m"},
    )  # fmt: skip
    assert ended.finished_at is not None
    assert list(ledger.active()) == []


def test_a_queued_job_is_cancelled_at_once_and_never_runs(
    ledger: Ledger, record: JobRecord
) -> None:
    assert ledger.cancel(record.id).status == "cancelled"
    assert ledger.claim(record.id, "delivery-1") is None
    assert ledger.cancel(record.id) == ledger.fetch(record.id)


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_job_that_has_ended_otherwise_cannot_be_cancelled(
    ledger: Ledger, record: JobRecord, end: JobStatus
) -> None:
    ledger.commit(claimed(ledger, record).record, end)
    with pytest.raises(IllegalMove, match=f"{record.id} has {end}: "):
        ledger.cancel(record.id)


def test_a_running_job_is_asked_to_stop_any_number_of_times(
    ledger: Ledger, record: JobRecord
) -> None:
    attempt = claimed(ledger, record)
    assert not attempt.cancel_requested()
    assert [ledger.cancel(record.id).status for _ in range(2)] == ["cancelling"] * 2
    assert attempt.cancel_requested()
    attempt.confirm_cancelled()
    assert ledger.fetch(record.id).status == "cancelled"


def test_a_job_that_is_done_before_it_heard_of_the_cancel_has_succeeded(
    ledger: Ledger, record: JobRecord
) -> None:
    attempt = claimed(ledger, record)
    ledger.cancel(record.id)
    attempt.succeed({})
    assert ledger.fetch(record.id).status == "succeeded"


def test_a_stale_attempt_commits_nothing(ledger: Ledger, record: JobRecord) -> None:
    stale = claimed(ledger, record)
    ledger.release(ledger.records.read(record.id), max_attempts=3)
    fresh = claimed(ledger, record, "delivery-2")
    for commit in (
        lambda: stale.succeed({}),
        lambda: stale.fail("code", "message"),
        lambda: stale.hand_back(),
        lambda: stale.cancel_requested(),
        lambda: stale.store("curves.png", b""),
    ):
        with pytest.raises(LeaseLost):
            commit()
    fresh.succeed({"by": "fresh"})
    with pytest.raises(LeaseLost):
        fresh.fail("code", "a terminal state is written once")
    assert ledger.fetch(record.id).result == {"by": "fresh"}


def test_a_stale_attempt_is_no_owner_of_a_later_cancel(ledger: Ledger, record: JobRecord) -> None:
    stale = claimed(ledger, record)
    ledger.cancel(record.id)
    ledger.release(ledger.records.read(record.id), max_attempts=3)
    assert ledger.records.read(record.id).status == "cancelled"
    with pytest.raises(LeaseLost):
        stale.confirm_cancelled()


def test_a_job_that_has_moved_meanwhile_is_not_released(ledger: Ledger, record: JobRecord) -> None:
    attempt = claimed(ledger, record)
    seen = ledger.records.read(record.id)
    attempt.succeed({})
    assert ledger.release(seen, max_attempts=3) is None
    assert ledger.records.read(record.id).status == "succeeded"


def test_the_third_death_ends_a_job_and_each_but_the_first_is_followed_by_a_pause(
    ledger: Ledger, record: JobRecord
) -> None:
    pauses = []
    for _ in range(3):
        claimed(ledger, record)
        released = ledger.release(ledger.records.read(record.id), max_attempts=3)
        assert released is not None
        pauses.append(released.not_before)
    ended = ledger.fetch(record.id)
    assert [each.status for each in history_of(ledger.records, record.id)] == [
        "queued", "running", "queued", "running", "queued", "running", "failed",
    ]  # fmt: skip
    assert ended.error is not None
    assert ended.error.code == "worker_lost"
    assert pauses[0] is not None
    assert pauses[1] is not None
    assert pauses[0] <= now()
    assert pauses[1] - now() > timedelta(seconds=8)


def test_a_cancelled_job_whose_process_died_is_cancelled(ledger: Ledger, record: JobRecord) -> None:
    claimed(ledger, record)
    ledger.cancel(record.id)
    released = ledger.release(ledger.records.read(record.id), max_attempts=3)
    assert released is not None
    assert released.status == "cancelled"


def test_handing_back_is_no_crash(ledger: Ledger, record: JobRecord) -> None:
    back = claimed(ledger, record).hand_back()
    assert (back.status, back.attempt, back.crashes) == ("queued", 2, 0)


def test_active_jobs_are_those_that_have_not_ended_whatever_befell_redis(
    ledger: Ledger, storage: Storage, record: JobRecord
) -> None:
    ended = JobRecord.new("train", REQUEST)
    ledger.create(ended)
    ledger.cancel(ended.id)
    ledger.leases.redis.flushall()
    assert list(Ledger(storage, ledger.leases, ledger.events).active()) == [record]


def test_marks_that_are_out_of_date_are_put_right(
    ledger: Ledger, storage: Storage, record: JobRecord
) -> None:
    ledger.cancel(record.id)
    unwritten, abandoned = new_id("job"), "job_01h00000000000000000"
    assert now() - made_at(abandoned) > timedelta(days=365)
    for job_id in (record.id, unwritten, abandoned):
        storage.put(f"{OPEN}/{job_id}", b"")
    assert list(ledger.active()) == []
    assert list(storage.keys(OPEN)) == [f"{OPEN}/{unwritten}"]  # its record may yet come


def test_an_answer_of_the_store_that_was_lost_does_not_lose_the_move(
    ledger: Ledger, storage: Storage, record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_and_say_it_was_there(key: str, data: bytes) -> None:
        original(key, data)
        original(key, data)

    original = storage.create
    monkeypatch.setattr(ledger.storage, "create", create_and_say_it_was_there)
    claimed(ledger, record).succeed({})
    assert ledger.records.read(record.id).status == "succeeded"


def test_a_job_that_cannot_be_recorded_is_none(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "objects" / "jobs").write_text("in the way of the folder")
    record = JobRecord.new("train", REQUEST)
    with pytest.raises(StorageError):
        ledger.create(record)


def test_events_tell_the_story_and_stay_when_redis_is_wiped(
    ledger: Ledger, storage: Storage, record: JobRecord
) -> None:
    attempt = claimed(ledger, record)
    attempt.report("training", JobProgress(step=1), {"loss": 0.5})
    attempt.store("samples-000000160.png", b"")
    attempt.log("something")
    told = ledger.events.read(record.id)
    assert [event.kind for event in told] == [
        "status", "status", "progress", "metric", "sample", "log",
    ]  # fmt: skip
    attempt.succeed({})
    ledger.leases.redis.flushall()
    kept = ledger.events.kept(storage, record.id)
    assert kept[:-1] == told
    assert kept[-1].data == {"status": "succeeded", "attempt": 1}
    assert [event.place for event in kept] == sorted(event.place for event in kept)


def test_a_job_that_has_ended_never_moves_again() -> None:
    record = JobRecord.new("train", REQUEST)
    for end in ("succeeded", "failed", "cancelled"):
        ended = record.model_copy(update={"status": end})
        for status in ("queued", "running", "cancelling", "succeeded", "failed", "cancelled"):
            with pytest.raises(IllegalMove):
                move(ended, status)
