"""How jobs end where what they need, or what lies beside it, is damaged."""

import pytest

from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker.queue.queue import JobQueue
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.schemas.requests import QUEUE_OF, GenerateJob, TrainJob
from worker.storage import Storage


@pytest.mark.parametrize("what", ["dataset", "card"])
def test_a_job_that_needs_a_damaged_record_fails_at_once_and_says_so(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker, what: str
) -> None:
    register_models(Registry(storage))
    if what == "dataset":
        storage.put(f"datasets/{tiny_job.dataset}/dataset.json", b"")
        job = jobs.submit("train", tiny_job)
    else:
        storage.put("models/clothing/versions/1/card.json", b"")
        job = jobs.submit("generate", GenerateJob(model="clothing:1", n=1))
    start_worker(QUEUE_OF[job.type])
    record = wait_for(jobs, job.id, lambda record: record.terminal)
    assert record.error is not None
    assert (record.status, record.error.code) == ("failed", "record_damaged")
    assert record.crashes == 0


def test_a_training_ends_well_beside_damaged_records(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    job = jobs.submit(
        "train", tiny_job.model_copy(update={"promote": "production", "promote_force": True})
    )
    for key in (
        "models/tiny/versions/1/card.json",
        "models/tiny/versions/2/deleted.json",
        f"models/tiny/origins/{job.id}.json",
        "models/tiny/aliases/production/00000001.json",
        "models/tiny/aliases/canary/00000001.json",
    ):
        storage.put(key, b"")
    start_worker()
    record = wait_for(jobs, job.id, lambda record: record.terminal)
    assert (record.status, record.error) == ("succeeded", None)
    assert record.result is not None
    assert record.result["version"] == 3
    assert Registry(storage).aliases("tiny") == {"production": 3}
