"""The import job, run by real worker processes."""

import io
import os
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest
from PIL import Image

from models.data.archive import ArchiveLimits
from tests.models.pictures import noise, saved, shop, zipped
from tests.processes import next_import, running, wait_until
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for, work_horse_of
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import JobInterrupted
from worker.datasets import direct_uploads, leftovers
from worker.datasets.datasets import DatasetInUse, DatasetStore, UploadOptions
from worker.datasets.direct_uploads import forget_abandoned, key_of
from worker.datasets.leftovers import sweep_leftovers
from worker.datasets.uploads import Uploads
from worker.imports.import_job import DECODING, run_import
from worker.imports.submission import submit_sent, submit_zip
from worker.preparation.submission import preparation_id
from worker.queue.queue import JobQueue, QueueFull
from worker.schemas.dataset_import import ImportJob, dataset_id_of
from worker.schemas.jobs import JobRecord, new_id, now
from worker.schemas.requests import GenerateJob
from worker.storage import Storage, StorageFull

HUGE = saved(noise(1, (60, 60)).resize((5000, 5000), Image.Resampling.NEAREST))
# Decoding takes seconds, spread over the zip.
SLOW = zipped({**shop(a=10, b=10), **{f"c/{n}.png": HUGE for n in range(30)}}).getvalue()
FEW = zipped(shop(a=10)).getvalue()


def submitted(jobs: JobQueue, content: bytes, **options: str) -> JobRecord:
    """The import job of a zip."""
    job = ImportJob.model_validate({"upload": new_id("up"), **options})
    return submit_zip(jobs, io.BytesIO(content), job)


def upload_of(record: JobRecord) -> str:
    assert isinstance(record.request, ImportJob)
    return record.request.upload


def dataset_of(record: JobRecord) -> str:
    assert isinstance(record.request, ImportJob)
    return record.request.dataset


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def failed(record: JobRecord) -> bool:
    return record.status == "failed"


def decoding(record: JobRecord) -> bool:
    return record.stage == DECODING and record.progress.percent > 0


def test_a_zip_becomes_a_data_set_and_is_deleted(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, SLOW, name="slow")
    assert storage.read(key_of(upload_of(job))) == SLOW
    start_worker("generate")
    seen: list[JobRecord] = []

    def ended(record: JobRecord) -> bool:
        seen.append(record)
        return succeeded(record)

    assert wait_for(jobs, job.id, ended).result == {"dataset": dataset_of(job)}
    record = DatasetStore(storage).fetch(dataset_of(job))
    assert (record.name, record.normalise, record.images) == ("slow", "as_is", 20)
    with io.BytesIO(SLOW) as source:
        expected = DatasetStore(storage).add(source, UploadOptions("slow"), ArchiveLimits())
    assert record.report == expected.report
    assert list(storage.keys("uploads")) == []

    percents = [each.progress.percent for each in seen]
    assert percents == sorted(percents)
    assert len({each for each in percents if 10 < each < 100}) >= 3
    etas = [each.progress.eta_s for each in seen if decoding(each)]
    assert all(eta is not None for eta in etas)


def test_a_studio_upload_queues_its_preparation(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, FEW, normalise="studio")
    start_worker("generate")
    preparation = preparation_id(dataset_of(job))
    result = wait_for(jobs, job.id, succeeded).result
    assert result == {"dataset": dataset_of(job), "preparation": preparation}
    assert DatasetStore(storage).fetch(dataset_of(job)).normalise == "studio"
    wait_for(jobs, preparation, succeeded)


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (zipped(shop(a=3)).getvalue(), "too_few_images", "needs 10 usable photos"),
        (b"no zip", "not_a_zip", "complete zip"),
    ],
)
def test_a_zip_that_cannot_be_a_data_set_fails_its_job_and_is_deleted(
    jobs: JobQueue,
    storage: Storage,
    start_worker: StartWorker,
    content: bytes,
    code: str,
    says: str,
) -> None:
    job = submitted(jobs, content)
    start_worker("generate")
    error = wait_for(jobs, job.id, failed).error
    assert error is not None
    assert error.code == code
    assert says in error.message
    wait_until(lambda: not storage.exists(key_of(upload_of(job))), "the zip is deleted")
    assert storage.folders("datasets") == []


def test_a_zip_that_is_gone_fails_its_job(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, FEW)
    storage.delete(key_of(upload_of(job)))
    start_worker("generate")
    error = wait_for(jobs, job.id, failed).error
    assert error is not None
    assert error.code == "upload_not_found"


def test_a_killed_import_goes_on_and_makes_one_data_set(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, SLOW)
    worker = start_worker("generate")
    wait_for(jobs, job.id, decoding)
    horse = work_horse_of(worker)
    decoder = next_import(horse)
    assert "libtorch" not in Path(f"/proc/{decoder}/maps").read_text()
    os.kill(horse, signal.SIGKILL)
    wait_until(lambda: not running(decoder), "the decoder ends with the work-horse")
    record = wait_for(jobs, job.id, succeeded)
    assert (record.attempt, record.crashes) == (2, 1)
    assert storage.folders("datasets") == [dataset_of(job)]
    assert DatasetStore(storage).fetch(dataset_of(job)).images == 20
    assert list(storage.keys("uploads")) == []


def test_a_worker_that_is_told_to_end_hands_the_import_back(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, SLOW)
    worker = start_worker("generate")
    wait_for(jobs, job.id, decoding)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    record = jobs.ledger.records.read(job.id)
    assert (record.status, record.attempt, record.crashes) == ("queued", 2, 0)
    assert storage.exists(key_of(upload_of(job)))
    start_worker("generate")
    wait_for(jobs, job.id, succeeded)


def test_a_decoder_that_ends_with_the_worker_is_not_the_zips_fault(
    jobs: JobQueue, storage: Storage
) -> None:
    job, told = submitted(jobs, SLOW), threading.Event()
    claimed = jobs.ledger.claim(job.id, "this test")
    assert claimed is not None
    with ThreadPoolExecutor(1) as pool:
        attempt = Attempt(jobs.ledger, claimed)
        outcome = pool.submit(run_import, attempt, jobs, told.is_set)
        decoder = next_import()
        told.set()
        os.kill(decoder, signal.SIGTERM)
        with pytest.raises(JobInterrupted):
            outcome.result(20)
    assert storage.exists(key_of(upload_of(job)))


def test_an_attempt_that_finds_the_data_set_made_imports_nothing(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    """As after a death between storing the data set and committing the job."""
    job = submitted(jobs, FEW)
    uploads = Uploads(DatasetStore(storage), jobs.leases)
    made = uploads.complete(upload_of(job), UploadOptions("first"), ArchiveLimits(), len(FEW))
    assert made.id == dataset_of(job)
    with pytest.raises(DatasetInUse):
        DatasetStore(storage).delete(made.id, jobs.ledger.records)
    start_worker("generate")
    assert wait_for(jobs, job.id, succeeded).result == {"dataset": made.id}
    assert DatasetStore(storage).fetch(made.id) == made


def test_a_cancelled_import_ends_within_five_seconds_and_leaves_nothing(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    job = submitted(jobs, SLOW)
    worker = start_worker("generate")
    wait_for(jobs, job.id, decoding)
    decoder = next_import(work_horse_of(worker))
    jobs.cancel(job.id)
    asked = time.monotonic()
    wait_for(jobs, job.id, lambda record: record.status == "cancelled")
    assert time.monotonic() - asked < 5
    assert not running(decoder)
    assert [*storage.keys("uploads"), *storage.keys("datasets")] == []


def test_an_upload_whose_import_has_not_ended_is_kept_however_old(
    jobs: JobQueue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = submitted(jobs, FEW), new_id("up")
    storage.put(key_of(other), FEW)
    storage.put(f"datasets/{dataset_of(job)}/images.zip", b"being written")
    storage.put(f"datasets/{dataset_id_of(other)}/images.zip", b"of a killed import")
    long_after = now() + timedelta(days=10)
    for module in (direct_uploads, leftovers):
        monkeypatch.setattr(module, "now", lambda: long_after)
    sweep_leftovers(storage)
    assert list(storage.keys("uploads")) == [key_of(upload_of(job))]
    assert storage.folders("datasets") == [dataset_of(job)]


def test_an_upload_is_swept_once_its_queued_import_was_cancelled(
    jobs: JobQueue, storage: Storage
) -> None:
    job = submitted(jobs, FEW)
    assert forget_abandoned(storage) == 0
    jobs.cancel(job.id)
    assert forget_abandoned(storage) == 1
    assert list(storage.keys("uploads")) == []


def test_a_refused_job_stores_no_zip(jobs: JobQueue, storage: Storage) -> None:
    full = JobQueue(
        jobs.ledger, jobs.connection, jobs.settings.model_copy(update={"max_queued_jobs": 1})
    )
    full.submit("generate", GenerateJob(n=1))
    with pytest.raises(QueueFull):
        submitted(full, FEW)
    assert list(storage.keys("uploads")) == []


def test_a_submission_that_is_repeated_stores_and_queues_nothing(
    jobs: JobQueue, storage: Storage
) -> None:
    job = submitted(jobs, FEW)
    assert isinstance(job.request, ImportJob)
    storage.delete(key_of(upload_of(job)))
    assert submit_zip(jobs, io.BytesIO(FEW), job.request) == job
    assert submit_sent(jobs, job.request) == job
    assert list(storage.keys("uploads")) == []
    assert len(jobs.waiting("generate")) == 1


def test_a_full_disk_fails_nothing_and_the_zip_stays(
    jobs: JobQueue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> IO[bytes]:
        return open("/dev/full", "w+b", buffering=0)

    job = submitted(jobs, FEW)
    claimed = jobs.ledger.claim(job.id, "this test")
    assert claimed is not None
    attempt = Attempt(jobs.ledger, claimed)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(StorageFull):
        run_import(attempt, jobs, lambda: False)
    monkeypatch.undo()
    assert storage.exists(key_of(upload_of(job)))
    run_import(attempt, jobs, lambda: False)  # as `worker.tasks` does, until there is room
    assert jobs.fetch(job.id).status == "succeeded"
