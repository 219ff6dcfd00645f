"""Architectures of train jobs: batches fit the data set unless one was asked for."""

import io
import json

import pytest

from models.data.archive import ArchiveLimits
from tests.models.pictures import shop, zipped
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker.datasets.datasets import DatasetRecord, DatasetStore, UploadOptions
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.schemas.jobs import new_id
from worker.schemas.requests import TrainJob
from worker.schemas.training_options import FromJob
from worker.storage import Storage
from worker.training.architectures import FILE, architecture_of


@pytest.fixture
def small(storage: Storage) -> DatasetRecord:
    """A data set of fewer photos than a preset's batch."""
    upload = io.BytesIO(zipped(shop(a=10, b=10)).getvalue())
    return DatasetStore(storage).add(upload, UploadOptions("small"), ArchiveLimits())


def test_a_preset_trains_on_fewer_photos_than_its_batch(
    jobs: JobQueue, small: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    wanted = TrainJob(dataset=small.id, model="small", resolution=28, preset="fast", max_images=60)
    job = jobs.submit("train", wanted)
    record = wait_for(jobs, job.id, lambda record: record.status == "succeeded")
    assert record.result is not None
    assert (record.result["model"], record.result["version"]) == ("small", 1)


def test_a_searched_batch_is_at_most_the_photos_unless_one_is_asked_for(
    storage: Storage, small: DatasetRecord
) -> None:
    search = new_id("job")
    job = TrainJob(dataset=small.id, model="small", resolution=28, preset="fast", max_images=60)
    point = {**architecture_of(job, storage, small, 5000).point(), "batch_size": 64}
    found = json.dumps({"resolution": 28, "point": point}).encode()
    JobFiles(storage, search).put(1, FILE, found)
    job = job.model_copy(update={"architecture": FromJob(from_job=search)})
    assert architecture_of(job, storage, small, 18).recipe.batch_size == 18
    assert architecture_of(job, storage, small, 5000).recipe.batch_size == 64
    asked = job.model_copy(update={"batch_size": 12})
    assert architecture_of(asked, storage, small, 18).recipe.batch_size == 12
