"""The prepare job, and trainings on studio photos, run by real worker processes."""

import json
import time
import zipfile
from pathlib import Path

import pytest

from models.data.archive import ArchiveLimits
from models.inference.backbones import identity
from tests.models.pictures import shop, zipped
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetInUse, DatasetRecord, DatasetStore, UploadOptions
from worker.preparation.cutting import CUTTING
from worker.queue.queue import JobQueue
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord
from worker.schemas.preparation import PrepareJob
from worker.schemas.requests import TrainJob
from worker.storage import Storage

PHOTOS = Path(__file__).parents[2] / "models" / "photos"


@pytest.fixture
def dataset(storage: Storage) -> DatasetRecord:
    """Ten real photos of five categories."""
    names = ("dress", "hat", "pants", "shirt", "shoes")
    photos = {
        f"{name}/{number}.jpg": (PHOTOS / f"{name}-{number}.jpg").read_bytes()
        for name in names
        for number in (1, 2)
    }
    photos["attributes.csv"] = b"file,color,material\ndress/1.jpg,petrol,silk\n"
    with zipped(photos) as upload:
        return DatasetStore(storage).add(upload, UploadOptions("few"), ArchiveLimits())


@pytest.fixture
def tiny_job(tiny_job: TrainJob) -> TrainJob:
    """A training of a few seconds, on so few photos."""
    return tiny_job.model_copy(update={"batch_size": 4, "max_images": 40})


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def test_a_preparation_stores_masks_attributes_and_a_sheet(
    jobs: JobQueue, storage: Storage, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    before = DatasetStore(storage).preview(dataset.id)
    start_worker("generate")
    job = jobs.submit("prepare", PrepareJob(dataset=dataset.id))
    result = wait_for(jobs, job.id, succeeded).result

    store = CutoutStore(storage, dataset.id)
    found = store.fetch()
    attributes = store.attributes(found)
    assert result == {"dataset": dataset.id, **found.summary}
    assert found.summary["photos"] == len(attributes) == dataset.images
    assert found.summary["doubtful"] == sum(bool(each.doubts) for each in attributes)
    with store.open_masks(found) as masks, DatasetStore(storage).open_images(dataset.id) as photos:
        names = zipfile.ZipFile(photos).namelist()
        assert zipfile.ZipFile(masks).namelist() == names == [each.file for each in attributes]
    assert {each.category for each in attributes} == set(dataset.categories)
    assert (attributes[0].color, attributes[0].given["material"]) == ("petrol", "silk")
    assert attributes[1].given == {}
    assert DatasetStore(storage).preview(dataset.id) == store.sheet(found) != before

    again = jobs.submit("prepare", PrepareJob(dataset=dataset.id))
    assert wait_for(jobs, again.id, succeeded).result == result
    assert store.fetch() == found
    assert len(storage.folders(f"datasets/{dataset.id}/cutouts")) == 1


def test_a_preparation_is_cancelled_within_five_seconds_and_leaves_nothing(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    with zipped(shop(a=120, b=120)) as upload:
        many = DatasetStore(storage).add(upload, UploadOptions("many"), ArchiveLimits())
    start_worker("generate")
    job = jobs.submit("prepare", PrepareJob(dataset=many.id))
    wait_for(jobs, job.id, lambda r: r.stage == CUTTING and r.progress.percent > 0)
    with pytest.raises(DatasetInUse):
        DatasetStore(storage).delete(many.id, jobs.ledger.records)
    jobs.cancel(job.id)
    asked = time.monotonic()
    wait_for(jobs, job.id, lambda r: r.status == "cancelled")
    assert time.monotonic() - asked < 5
    assert CutoutStore(storage, many.id).find() is None
    DatasetStore(storage).delete(many.id, jobs.ledger.records)
    assert list(storage.keys(f"datasets/{many.id}")) == []


def test_a_training_on_studio_photos_makes_the_masks_once_and_its_card_tells(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    studio = tiny_job.model_copy(update={"normalise": "studio", "background": "#f0f0f0"})
    wait_for(jobs, jobs.submit("train", studio).id, succeeded)
    found = CutoutStore(storage, tiny_job.dataset).fetch()
    wait_for(jobs, jobs.submit("train", studio).id, succeeded)
    assert CutoutStore(storage, tiny_job.dataset).fetch() == found
    wait_for(jobs, jobs.submit("train", tiny_job).id, succeeded)

    first, second, plain = Registry(storage).versions("tiny")
    network = {"name": "u2net-p", "weights_sha256": identity("u2net-p").weights_sha256}
    told = {"normalise": "studio", "background": "#F0F0F0", "cut_out_by": network}
    assert told.items() <= json.loads(json.dumps(first.data)).items()
    assert first.weights_sha256 == second.weights_sha256 != plain.weights_sha256
    assert plain.data["normalise"] == "as_is"
    assert "background" not in plain.data


def test_a_training_that_has_no_time_for_the_masks_says_what_to_do(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    with zipped(shop(a=120, b=120)) as upload:
        options = UploadOptions("many", "studio")  # the default counts
        many = DatasetStore(storage).add(upload, options, ArchiveLimits())
    start_worker()
    job = tiny_job.model_copy(update={"dataset": many.id, "max_seconds": 5})
    error = wait_for(jobs, jobs.submit("train", job).id, lambda r: r.status == "failed").error
    assert error is not None
    assert error.code == "invalid_request"
    assert "POST /jobs/prepare" in error.message
