"""The reconciler: recovery from silent processes, lost deliveries and a wiped Redis."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import RedisError

from worker.ledger.artifacts import SCRATCH, scratch_folder
from worker.queue.queue import (
    HELP_TASK,
    TASK,
    JobQueue,
    open_queue,
    open_rq_queue,
)
from worker.queue.reconciler import reconcile, reconcile_in_turn, sweep
from worker.schemas.jobs import JobRecord, move, now
from worker.schemas.requests import QUEUE_OF, GenerateJob, TrainJob
from worker.settings import Settings
from worker.storage import Storage

REQUEST = TrainJob(dataset="ds_00000000000000sample", model="m")
LEASE_S = 0.4


@pytest.fixture
def jobs(settings: Settings, storage: Storage) -> Iterator[JobQueue]:
    """A queue with short leases; Redis is old enough for a missing lease to mean a death."""
    queue = open_queue(settings.model_copy(update={"lease_s": LEASE_S}), storage, timeout_s=1)
    queue.leases.can_be_judged()
    wait_until(queue.leases.can_be_judged)
    yield queue
    queue.leases.redis.close()
    queue.connection.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(jobs: JobQueue) -> JobRecord:
    """A job that a process has claimed."""
    record = jobs.submit("train", REQUEST)
    jobs.queues["train"].empty()
    claimed = jobs.ledger.claim(record.id, "delivery-1")
    assert claimed is not None
    return claimed


def test_a_silent_job_is_queued_again(jobs: JobQueue) -> None:
    record = running(jobs)
    reconcile(jobs)
    assert jobs.fetch(record.id).status == "running"
    time.sleep(LEASE_S + 0.1)
    reconcile(jobs)
    again = jobs.fetch(record.id)
    assert (again.status, again.attempt, again.crashes) == ("queued", 2, 1)
    assert list(jobs.queues["train"].jobs[0].args) == [record.id]


def test_after_a_wipe_the_living_are_given_time_to_show_themselves(jobs: JobQueue) -> None:
    record = running(jobs)
    jobs.leases.redis.flushall()
    reconcile(jobs)
    assert jobs.fetch(record.id).status == "running"
    assert record.held_by is not None
    jobs.leases.renew(record.held_by)
    wait_until(jobs.leases.can_be_judged)
    jobs.leases.renew(record.held_by)
    reconcile(jobs)
    assert jobs.fetch(record.id).status == "running"
    jobs.leases.drop(record.held_by)
    reconcile(jobs)
    assert jobs.fetch(record.id).status == "queued"


def test_after_a_wipe_queued_jobs_are_delivered_from_storage(jobs: JobQueue) -> None:
    records = [jobs.submit("train", REQUEST) for _ in range(3)]
    images = jobs.submit("generate", GenerateJob(n=1))
    jobs.leases.redis.flushall()
    reconcile(jobs)
    assert sorted(jobs.waiting("train")) == [record.id for record in records]
    assert jobs.waiting("generate") == [images.id]


def test_jobs_that_wait_in_the_queue_of_an_earlier_release_move_to_those_of_their_types(
    jobs: JobQueue,
) -> None:
    """An earlier release had one queue for all types of jobs."""
    trained = [jobs.submit("train", REQUEST) for _ in range(2)]
    images = jobs.submit("generate", GenerateJob(n=1))
    old = open_rq_queue("vitrine", jobs.connection)
    for record in (*trained, images):
        jobs.queues[QUEUE_OF[record.type]].empty()
        jobs.leases.redis.delete(f"vitrine:underway:{record.id}")
        old.enqueue(TASK, record.id, job_id=f"{record.id}-1")
    reconcile(jobs)
    assert jobs.waiting("train") == [record.id for record in trained]
    assert jobs.waiting("generate") == [images.id]
    assert old.count == 0
    assert jobs.leases.redis.keys("rq:job:*-1") == []


def test_a_lost_delivery_is_sent_again_once_it_cannot_be_underway(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.queues["train"].empty()
    reconcile(jobs)
    assert jobs.queues["train"].count == 0  # a worker may have taken it and be about to claim it
    jobs.leases.redis.delete(f"vitrine:underway:{record.id}")
    for _ in range(2):
        reconcile(jobs)
    assert jobs.waiting("train") == [record.id]


def test_a_job_that_is_to_pause_is_delivered_when_the_pause_is_over(jobs: JobQueue) -> None:
    record = running(jobs)
    jobs.ledger.release(record.model_copy(update={"crashes": 1}), max_attempts=3)
    jobs.leases.redis.delete(f"vitrine:underway:{record.id}")
    pause = jobs.fetch(record.id).not_before
    assert pause is not None
    assert pause - now() > timedelta(seconds=5)
    reconcile(jobs)
    assert jobs.queues["train"].count == 0


def test_a_job_whose_record_is_damaged_is_passed_over(
    jobs: JobQueue, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, sound = (jobs.submit("train", REQUEST).id for _ in range(2))
    storage.put(f"jobs/records/{damaged}/000002.json", b'{"id":')
    jobs.leases.redis.flushall()
    reconcile(jobs)
    assert jobs.waiting("train") == [sound]
    assert damaged in caplog.text


def test_a_helper_of_a_requeued_job_is_not_its_delivery(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.queues["train"].empty()
    jobs.leases.redis.delete(f"vitrine:underway:{record.id}")
    jobs.queue_helpers(record.id, 1)
    reconcile(jobs)
    assert [job.func_name for job in jobs.queues["train"].jobs] == [HELP_TASK, TASK]


def test_one_of_all_processes_has_the_turn(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    reconcile_in_turn(jobs)
    jobs.queues["train"].empty()
    jobs.leases.redis.delete(f"vitrine:underway:{record.id}")
    reconcile_in_turn(jobs)
    assert jobs.queues["train"].count == 0
    reconcile(jobs)
    assert jobs.queues["train"].count == 1


def test_what_a_job_needed_goes_with_its_end_and_what_comes_later_is_swept(
    jobs: JobQueue, storage: Storage
) -> None:
    ended, other = (jobs.submit("train", REQUEST).id for _ in range(2))
    state, kept = (f"{scratch_folder(job_id)}/checkpoints/1" for job_id in (ended, other))
    for key in (state, kept):
        storage.put(key, b"state")
    jobs.cancel(ended)
    assert list(storage.keys(SCRATCH)) == [kept]
    storage.put(state, b"from a process that did not know")
    sweep(jobs.ledger.records)
    assert list(storage.keys(SCRATCH)) == [kept]


def test_a_job_that_is_damaged_after_it_was_indexed_is_passed_over(
    jobs: JobQueue, storage: Storage
) -> None:
    damaged, sound = (jobs.submit("train", REQUEST).id for _ in range(2))
    storage.put(f"jobs/records/{damaged}/000002.json", b"")
    jobs.queues["train"].empty()
    jobs.leases.redis.delete(*jobs.leases.redis.keys("vitrine:underway:*"))
    reconcile(jobs)
    assert jobs.waiting("train") == [sound]


def test_damage_is_logged_once(
    jobs: JobQueue, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = jobs.submit("train", REQUEST).id
    storage.put(f"jobs/records/{damaged}/000002.json", b"")
    for _ in range(3):
        reconcile(jobs)
    assert caplog.text.count(damaged) == 1


def test_an_end_that_cannot_be_tidied_up_holds_up_no_other(jobs: JobQueue, tmp_path: Path) -> None:
    ended, waiting = (jobs.submit("train", REQUEST) for _ in range(2))
    jobs.ledger.records.append(move(ended, "cancelled"))
    jobs.queues["train"].empty()
    jobs.leases.redis.delete(*jobs.leases.redis.keys("vitrine:underway:*"))
    (tmp_path / "objects" / "jobs" / "events").write_text("in the way of the folder")
    reconcile(jobs)
    assert jobs.waiting("train") == [waiting.id]


def test_after_an_outage_the_living_are_given_time_to_show_themselves(jobs: JobQueue) -> None:
    record = running(jobs)
    redis = jobs.leases.redis
    try:
        redis.config_set("maxmemory", 1)
        for _ in range(2):
            with pytest.raises(RedisError):
                reconcile_in_turn(jobs)
            time.sleep(LEASE_S / 2 + 0.1)
    finally:
        redis.config_set("maxmemory", 0)
    reconcile_in_turn(jobs)
    assert jobs.fetch(record.id).status == "running"
    wait_until(jobs.leases.can_be_judged)
    reconcile(jobs)
    assert jobs.fetch(record.id).status == "queued"


def test_only_a_job_s_own_scratch_folder_is_swept(jobs: JobQueue, storage: Storage) -> None:
    for folder in ("backup", "job_x", ".cache"):
        storage.put(f"{SCRATCH}/{folder}/file", b"foreign")
    sweep(jobs.ledger.records)
    assert len(storage.folders(SCRATCH)) == 3
