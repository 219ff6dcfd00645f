"""The ledger: every move of a job, and who is refused."""

from pathlib import Path

import pytest

from worker.jobs import IllegalMove, JobProgress, JobRecord, move, now
from worker.ledger import ACTIVE, JobNotFound, LeaseLost, Ledger
from worker.queue import JobQueue
from worker.requests import TrainJob
from worker.storage import Storage, StorageError

REQUEST = TrainJob(dataset="ds_00000000000000sample", model="m")


@pytest.fixture
def ledger(jobs: JobQueue) -> Ledger:
    return jobs.ledger


def test_a_created_job_is_durable_and_queued(ledger: Ledger, storage: Storage) -> None:
    record = ledger.create("train", REQUEST)
    ledger.redis.flushall()
    assert Ledger(storage, ledger.redis, 30).fetch(record.id) == record
    assert (record.status, record.attempt) == ("queued", 1)


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(JobNotFound):
        ledger.fetch("job_00000000000000000000")


def test_a_job_is_claimed_once(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    assert ledger.claim(record.id) is not None
    assert ledger.claim(record.id) is None


def test_live_progress_is_shown_and_kept_at_the_end(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    claim = ledger.claim(record.id)
    assert claim is not None
    claim.report("training", JobProgress(step=5, total=10, percent=50), {"loss": 1.5})
    shown = ledger.fetch(record.id)
    assert (shown.stage, shown.progress.percent, shown.metrics) == ("training", 50, {"loss": 1.5})
    claim.succeed({"model": "m"})
    ended = ledger.fetch(record.id)
    assert (ended.status, ended.metrics, ended.result) == (
        "succeeded", {"loss": 1.5}, {"model": "m"},
    )  # fmt: skip
    assert ended.finished_at is not None
    assert list(ledger.active()) == []


def test_a_queued_job_is_cancelled_at_once_and_never_runs(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    assert ledger.cancel(record.id).status == "cancelled"
    assert ledger.claim(record.id) is None
    with pytest.raises(IllegalMove):
        ledger.cancel(record.id)


def test_a_running_job_is_asked_to_stop_any_number_of_times(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    claim = ledger.claim(record.id)
    assert claim is not None
    assert not claim.cancel_requested()
    assert [ledger.cancel(record.id).status for _ in range(2)] == ["cancelling"] * 2
    assert claim.cancel_requested()
    claim.confirm_cancelled()
    assert ledger.fetch(record.id).status == "cancelled"


def test_a_stale_attempt_commits_nothing(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    stale = ledger.claim(record.id)
    ledger.drop_lease(record.id)
    ledger.release_dead(record.id, max_attempts=3)
    fresh = ledger.claim(record.id)
    assert stale is not None
    assert fresh is not None
    for commit in (
        lambda: stale.succeed({}),
        lambda: stale.fail("code", "message"),
        lambda: stale.hand_back(),
        lambda: stale.cancel_requested(),
    ):
        with pytest.raises(LeaseLost):
            commit()
    fresh.succeed({"by": "fresh"})
    with pytest.raises(LeaseLost):
        fresh.fail("code", "a terminal state is written once")
    assert ledger.fetch(record.id).result == {"by": "fresh"}


def test_a_leased_job_is_not_taken_for_dead(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    ledger.claim(record.id)
    assert ledger.release_dead(record.id, max_attempts=3).status == "running"


def test_the_third_death_ends_a_job(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    statuses = []
    for _ in range(3):
        ledger.claim(record.id)
        ledger.drop_lease(record.id)
        statuses.append(ledger.release_dead(record.id, max_attempts=3).status)
    assert statuses == ["queued", "queued", "failed"]
    error = ledger.fetch(record.id).error
    assert error is not None
    assert error.code == "worker_lost"


def test_a_cancelled_job_whose_process_died_is_cancelled(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    ledger.claim(record.id)
    ledger.cancel(record.id)
    ledger.drop_lease(record.id)
    assert ledger.release_dead(record.id, max_attempts=3).status == "cancelled"


def test_handing_back_is_no_crash(ledger: Ledger) -> None:
    record = ledger.create("train", REQUEST)
    claim = ledger.claim(record.id)
    assert claim is not None
    back = claim.hand_back()
    assert (back.status, back.attempt, back.crashes) == ("queued", 2, 0)


def test_active_jobs_are_found_again_in_storage_alone(ledger: Ledger) -> None:
    running, ended = (ledger.create("train", REQUEST) for _ in range(2))
    ledger.cancel(ended.id)
    ledger.redis.flushall()
    assert list(ledger.active()) == []
    ledger.rebuild()
    assert list(ledger.active()) == [running]


def test_a_list_of_active_jobs_that_is_out_of_date_is_put_right(
    ledger: Ledger,
) -> None:
    ended = ledger.cancel(ledger.create("train", REQUEST).id)
    unwritten = "job_00000000000000000000"
    ledger.redis.sadd(ACTIVE, ended.id, unwritten)
    assert list(ledger.active()) == []
    assert ledger.redis.smembers(ACTIVE) == {unwritten}  # its record may yet come


def test_a_job_that_cannot_be_recorded_leaves_no_trace(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "objects" / "jobs").write_text("in the way of the folder")
    with pytest.raises(StorageError):
        ledger.create("train", REQUEST)
    assert not ledger.redis.exists(ACTIVE)


def test_a_job_that_has_ended_never_moves_again() -> None:
    record = JobRecord(id="job_x", type="train", request=REQUEST, created_at=now())
    for end in ("succeeded", "failed", "cancelled"):
        ended = record.model_copy(update={"status": end})
        for status in ("queued", "running", "cancelling", "succeeded", "failed", "cancelled"):
            with pytest.raises(IllegalMove):
                move(ended, status)
