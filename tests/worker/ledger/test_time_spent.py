"""The time that a job has run: over all attempts, without the queue, safe from stale ones."""

from datetime import timedelta

import pytest

from worker.attempt.attempt import Attempt
from worker.ledger.time_spent import seconds_spent
from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobProgress, JobRecord
from worker.schemas.requests import TrainJob
from worker.storage import Storage


@pytest.fixture
def job_id(jobs: JobQueue) -> str:
    return jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m")).id


def claimed(jobs: JobQueue, job_id: str, holder: str, seconds_ago: float = 0.0) -> JobRecord:
    record = jobs.ledger.claim(job_id, holder)
    assert record is not None
    earlier = record.moved_at - timedelta(seconds=seconds_ago)
    return record.model_copy(update={"moved_at": earlier})


def test_an_attempt_goes_on_from_what_those_before_it_have_spent(
    jobs: JobQueue, storage: Storage, job_id: str
) -> None:
    assert seconds_spent(storage, claimed(jobs, job_id, "0")) < 2
    Attempt(jobs.ledger, jobs.ledger.records.read(job_id)).hand_back()
    for holder, expected in (("1", 30), ("2", 60)):
        record = claimed(jobs, job_id, holder, seconds_ago=30)
        assert seconds_spent(storage, record) == pytest.approx(expected, abs=2)
        Attempt(jobs.ledger, record).hand_back()


def test_a_dead_attempt_counts_up_to_its_last_report_and_cannot_count_on(
    jobs: JobQueue, storage: Storage, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.attempt.attempt.STORE_EVERY_S", 0.0)
    record = claimed(jobs, job_id, "1", seconds_ago=30)
    frozen = Attempt(jobs.ledger, record)
    frozen.report("training", JobProgress(), {})
    jobs.ledger.release(jobs.ledger.records.read(job_id), 3)
    frozen.record = record.model_copy(update={"moved_at": record.moved_at - timedelta(hours=1)})
    frozen.report("training", JobProgress(), {})
    second = claimed(jobs, job_id, "2")
    assert seconds_spent(storage, second) == pytest.approx(30, abs=2)
    jobs.ledger.commit(second, "failed")
    assert list(storage.keys("jobs/scratch")) == []


def test_a_damaged_time_is_not_counted(jobs: JobQueue, storage: Storage, job_id: str) -> None:
    Attempt(jobs.ledger, claimed(jobs, job_id, "1", seconds_ago=30)).hand_back()
    (key,) = storage.keys("jobs/scratch")
    storage.put(key, b"\xff")
    assert seconds_spent(storage, claimed(jobs, job_id, "2")) < 2
