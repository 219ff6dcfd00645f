"""How many jobs are before a queued one, and when it is estimated to start."""

import json
import threading
from datetime import timedelta

import pytest

from worker.queue.queue import JobQueue
from worker.queue.queue_position import QueuePosition, position_of, positions_of
from worker.queue.supervisor import JobWorker
from worker.schemas.jobs import JobRecord, now
from worker.schemas.requests import GenerateJob, QueueName, TrainJob

TRAINING = TrainJob(dataset="ds_00000000000000sample", model="m")


def submit_trainings(jobs: JobQueue, count: int) -> list[JobRecord]:
    return [jobs.submit("train", TRAINING) for _ in range(count)]


def register_worker(jobs: JobQueue, queue: QueueName, state: str) -> None:
    worker = JobWorker(jobs, queue, threading.Event())
    worker.register_birth()  # type: ignore[no-untyped-call] # RQ's own
    worker.heartbeat()
    worker.set_state(state)


def run(jobs: JobQueue, record: JobRecord, eta_s: int | None) -> JobRecord:
    """Have a busy worker take a job, and report how long it still runs."""
    jobs.queues["train"].remove(jobs.queues["train"].get_job_ids()[0])
    register_worker(jobs, "train", "busy")
    claimed = jobs.ledger.claim(record.id, f"{record.id}-1")
    assert claimed is not None
    progress = {"step": 1, "percent": 1.0, "eta_s": eta_s}
    shown = {"stage": "training", "progress": progress, "metrics": {}}
    jobs.leases.renew(f"{record.id}-1", json.dumps(shown))
    return claimed


def end_trainings(jobs: JobQueue, *took_s: float) -> None:
    """Trainings that succeed after so many seconds each."""
    for seconds in took_s:
        record = jobs.submit("train", TRAINING)
        jobs.queues["train"].empty()
        claimed = jobs.ledger.claim(record.id, "delivery")
        assert claimed is not None
        began = now() - timedelta(seconds=seconds)
        jobs.ledger.commit(claimed, "succeeded", started_at=began)


def starts(jobs: JobQueue, records: list[JobRecord]) -> list[int | None]:
    positions = positions_of(jobs, records)
    return [positions[record.id].eta_s for record in records]


def test_jobs_wait_in_the_order_of_their_own_queue(jobs: JobQueue) -> None:
    first, second = submit_trainings(jobs, 2)
    images = jobs.submit("generate", GenerateJob(n=1))
    positions = positions_of(jobs, [first, second, images])
    assert [positions[job.id].before for job in (first, second, images)] == [0, 1, 0]
    attempt = jobs.ledger.claim(first.id, "delivery-1")
    assert attempt is not None
    assert position_of(jobs, attempt) is None


def test_a_job_starts_when_those_before_it_have_ended(jobs: JobQueue) -> None:
    end_trainings(jobs, 100, 60, 2000)
    running, *waiting = submit_trainings(jobs, 4)
    run(jobs, running, eta_s=30)
    assert starts(jobs, waiting) == [30, 130, 230]


def test_each_of_several_workers_takes_the_next_job_when_it_is_free(jobs: JobQueue) -> None:
    end_trainings(jobs, 100)
    one, two, *waiting = submit_trainings(jobs, 5)
    run(jobs, one, eta_s=50)
    run(jobs, two, eta_s=10)
    assert starts(jobs, waiting) == [10, 50, 110]


def test_a_job_before_an_idle_worker_starts_at_once(jobs: JobQueue) -> None:
    waiting = submit_trainings(jobs, 2)
    register_worker(jobs, "train", "idle")
    assert starts(jobs, waiting) == [0, None]  # no training has succeeded yet


@pytest.mark.parametrize("other", ["generate", None])
def test_without_a_worker_of_its_queue_nobody_knows_when_a_job_starts(
    jobs: JobQueue, other: QueueName | None
) -> None:
    end_trainings(jobs, 100)
    if other is not None:
        register_worker(jobs, other, "idle")
    assert starts(jobs, submit_trainings(jobs, 1)) == [None]


def test_a_running_job_that_has_not_told_when_it_ends_leaves_it_open(jobs: JobQueue) -> None:
    end_trainings(jobs, 100)
    running, *waiting = submit_trainings(jobs, 2)
    run(jobs, running, eta_s=None)
    assert starts(jobs, waiting) == [None]


def test_a_worker_that_is_busy_with_something_else_leaves_it_open(jobs: JobQueue) -> None:
    """As when it starts a job, or helps a search."""
    end_trainings(jobs, 100)
    running, *waiting = submit_trainings(jobs, 2)
    run(jobs, running, eta_s=30)
    register_worker(jobs, "train", "busy")
    assert starts(jobs, waiting) == [None]


def test_nothing_is_told_of_jobs_behind_the_helper_of_a_search(jobs: JobQueue) -> None:
    end_trainings(jobs, 100)
    running, before = submit_trainings(jobs, 2)
    jobs.queue_helpers("job_1", 1)
    (behind,) = submit_trainings(jobs, 1)
    run(jobs, running, eta_s=30)
    assert positions_of(jobs, [before, behind]) == {
        before.id: QueuePosition(0, 30),
        behind.id: QueuePosition(2, None),
    }


def test_jobs_that_fail_or_are_cancelled_do_not_count_as_usual(jobs: JobQueue) -> None:
    end_trainings(jobs, 100)
    for _ in range(3):
        (record,) = submit_trainings(jobs, 1)
        jobs.queues["train"].empty()
        claimed = jobs.ledger.claim(record.id, "delivery")
        assert claimed is not None
        jobs.ledger.commit(claimed, "failed")
    running, *waiting = submit_trainings(jobs, 3)
    run(jobs, running, eta_s=30)
    assert starts(jobs, waiting) == [30, 130]
