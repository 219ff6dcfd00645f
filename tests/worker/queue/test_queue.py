"""Delivery of jobs by RQ, and recovery of lost deliveries."""

import json
import zlib
from datetime import timedelta

import pytest

from worker.queue.queue import (
    HELP_TASK,
    TASK,
    JobQueue,
    QueueFull,
    open_queue,
)
from worker.schemas.jobs import new_id, now
from worker.schemas.requests import GenerateJob, NasJob, TrainJob
from worker.settings import Settings
from worker.storage import Storage

REQUEST = TrainJob(dataset="ds_00000000000000sample", model="m")


def test_rq_carries_the_job_id_alone_as_json(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    delivery = jobs.queues["train"].jobs[0]
    assert (delivery.func_name, list(delivery.args), delivery.kwargs) == (TASK, [record.id], {})
    stored = jobs.connection.hget(delivery.key, "data")
    assert isinstance(stored, bytes)
    assert json.loads(zlib.decompress(stored)) == [TASK, None, [record.id], {}]


def test_a_full_queue_refuses_and_records_nothing(settings: Settings, storage: Storage) -> None:
    jobs = open_queue(settings.model_copy(update={"max_queued_jobs": 2}), storage, timeout_s=1)
    for _ in range(2):
        jobs.submit("train", REQUEST)
    with pytest.raises(QueueFull):
        jobs.submit("train", REQUEST)
    assert len(jobs.ledger.records.ids()) == 2
    for _ in range(2):  # a queue that is full of trainings does not keep images out
        jobs.submit("generate", GenerateJob(n=1))
    with pytest.raises(QueueFull, match="generate"):
        jobs.submit("generate", GenerateJob(n=1))


def test_each_type_of_job_waits_in_its_queue(jobs: JobQueue) -> None:
    trained = jobs.submit("train", REQUEST)
    searched = jobs.submit("nas", NasJob(dataset=REQUEST.dataset, model="m"))
    images = jobs.submit("generate", GenerateJob(n=1))
    assert jobs.waiting("train") == [trained.id, searched.id]
    assert jobs.waiting("generate") == [images.id]


def test_a_delivery_that_ends_takes_no_other_one_along(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.deliver(record)
    first, second = jobs.queues["train"].jobs
    first.delete()
    assert jobs.queues["train"].jobs == [second]


def test_pages_are_newest_first_and_complete(jobs: JobQueue) -> None:
    ids = [jobs.submit("train", REQUEST).id for _ in range(5)]
    jobs.cancel(ids[2])
    seen: list[str] = []
    after, more = None, True
    while more:
        page, more = jobs.page(None, None, 2, after)
        seen += [record.id for record in page]
        after = seen[-1]
        jobs.submit("train", REQUEST)  # a job submitted between two pages does not shift them
    assert seen == sorted(ids, reverse=True)
    cancelled, more = jobs.page("train", "cancelled", 2, None)
    assert ([record.id for record in cancelled], more) == ([ids[2]], False)


def test_helpers_are_invited_once_and_again_when_they_are_gone(jobs: JobQueue) -> None:
    for _ in range(2):
        jobs.queue_helpers("job_1", 2)
    first, second = jobs.queues["train"].get_job_ids()
    delivery = jobs.queues["train"].fetch_job(first)
    assert delivery is not None
    assert (delivery.func_name, list(delivery.args)) == (HELP_TASK, ["job_1", first])

    jobs.queues["train"].remove(first)  # as when a worker takes it: the helper still has its lease
    jobs.queue_helpers("job_1", 2)
    assert jobs.queues["train"].get_job_ids() == [second]
    jobs.leases.drop(first)
    jobs.queue_helpers("job_1", 2)
    assert len(jobs.queues["train"].get_job_ids()) == 2
    assert first not in jobs.queues["train"].get_job_ids()


def test_helpers_on_their_way_are_dismissed_and_nobody_else(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.queue_helpers("job_1", 3)
    jobs.queue_helpers("job_2", 1)
    jobs.remove_helpers("job_1")
    assert len(jobs.queues["train"].get_job_ids()) == 2
    assert jobs.waiting("train")[0] == record.id


def test_a_job_with_an_id_of_its_own_is_submitted_once(jobs: JobQueue) -> None:
    job_id = new_id("job")
    first = jobs.submit("train", REQUEST, job_id)
    jobs.cancel(job_id)
    assert jobs.submit("train", REQUEST, job_id) == first
    assert jobs.queues["train"].count == 1


def test_a_job_that_waits_before_its_next_attempt_is_not_delivered(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.queues["train"].empty()
    jobs.deliver(record.model_copy(update={"not_before": now() + timedelta(seconds=60)}))
    assert jobs.queues["train"].count == 0
    jobs.deliver(record.model_copy(update={"not_before": now()}))
    assert jobs.queues["train"].count == 1


@pytest.mark.parametrize(("dead", "status"), [("delivery-1", "queued"), ("delivery-2", "running")])
def test_a_dead_delivery_takes_its_own_job_back_and_no_other_one(
    jobs: JobQueue, dead: str, status: str
) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.ledger.claim(record.id, "delivery-1")
    jobs.handle_dead_delivery(record.id, dead)
    assert jobs.fetch(record.id).status == status


def test_a_delivery_that_died_before_it_could_claim_is_counted(jobs: JobQueue) -> None:
    record = jobs.submit("train", REQUEST)
    jobs.handle_dead_delivery(record.id, "delivery-1")
    assert (jobs.fetch(record.id).status, jobs.fetch(record.id).crashes) == ("queued", 1)
