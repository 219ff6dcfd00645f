"""The import job: fetches a stored zip, decodes it in a bounded process, stores the photos."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import BinaryIO

from pydantic import JsonValue

from models.data.archive import ArchiveLimits, DatasetError
from models.data.upload_import import Imported
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import JobCancelled, JobInterrupted, ProgressReporter
from worker.attempt.stage_plan import StagePlan
from worker.datasets.datasets import DatasetRecord, DatasetStore, UploadOptions
from worker.datasets.direct_uploads import UploadTooLarge, check_size, key_of
from worker.datasets.import_slot import Abandoned, Bounds
from worker.datasets.importing import Importer
from worker.preparation.submission import REFUSED, queue_preparation
from worker.queue.queue import JobQueue, QueueFull
from worker.schemas.dataset_import import ImportJob
from worker.settings import Settings
from worker.storage import Storage, StorageFull, is_full

FETCHING, DECODING, STORING = "fetching the zip", "decoding the photos", "storing the photos"
# Of a zip of JPEGs, about; each stage is measured once it runs.
COPIED_BYTES_S, DECODED_BYTES_S = 50e6, 5e6


def run_import(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Make a data set of a stored zip, or find it made; then delete the zip.

    Raises:
        JobCancelled: a client has cancelled the job; the zip is deleted.
        JobInterrupted: `stop_requested` returned True; the next attempt begins anew.
        UploadNotFound: the zip is gone.
        StorageFull: there is no room for the photos, or for temporary files; the zip stays.
    """
    job, storage = attempt.record.request, jobs.ledger.storage
    assert isinstance(job, ImportJob)
    zip_key = key_of(job.upload)
    reporter = ProgressReporter(attempt, stop_requested)
    try:
        dataset = _import(storage, jobs.settings, reporter, job)
    except JobCancelled:
        storage.delete(zip_key)
        raise
    except (DatasetError, UploadTooLarge) as error:
        if stop_requested():  # what stops the worker may have ended the decoder as well
            raise JobInterrupted from error
        attempt.fail(_code(error), str(error))
        storage.delete(zip_key)  # afterwards: another attempt would not find it
        return
    result = _result(jobs, dataset)
    storage.delete(zip_key)
    attempt.succeed(result)


def _import(
    storage: Storage, settings: Settings, reporter: ProgressReporter, job: ImportJob
) -> DatasetRecord:
    """The data set of the zip, which is fetched, decoded and stored."""
    datasets = DatasetStore(storage)
    if datasets.exists(job.dataset):  # an earlier attempt, or another request, has made it
        return datasets.fetch(job.dataset)
    size = check_size(storage, job.upload, settings.max_upload_bytes)
    copy_s = size / COPIED_BYTES_S
    stages = {FETCHING: copy_s, DECODING: size / DECODED_BYTES_S, STORING: copy_s}
    reporter.plan = StagePlan(stages)
    limits = ArchiveLimits(total_bytes=settings.max_dataset_bytes)
    options = UploadOptions(job.name, job.normalise)
    with tempfile.TemporaryFile() as source, closing(_importer(settings)) as importer:
        _fetch(storage, key_of(job.upload), source, reporter, size)
        store = DatasetStore(storage, partial(_decode, importer, reporter))
        return store.add(source, options, limits, job.dataset)


def _fetch(
    storage: Storage, key: str, target: BinaryIO, reporter: ProgressReporter, size: int
) -> None:
    reporter.begin(FETCHING)
    try:
        for piece in storage.stream(key):
            target.write(piece)
            if reporter.is_due:
                reporter.show(target.tell() / size)
        target.seek(0)
    except OSError as error:
        if is_full(error):
            raise StorageFull("there is no room for temporary files") from error
        raise


def _decode(
    importer: Importer,
    reporter: ProgressReporter,
    source: BinaryIO,
    target: BinaryIO,
    limits: ArchiveLimits,
    abandoned: Abandoned,
) -> Imported:
    """As `Importer.run`; raises as `ProgressReporter.report` does."""

    def show(share: float) -> None:
        if reporter.is_due:
            reporter.show(share)

    reporter.begin(DECODING)
    imported = importer.run(source, target, limits, abandoned, show)
    reporter.begin(STORING)
    return imported


def _importer(settings: Settings) -> Importer:
    return Importer(
        Bounds(
            memory_bytes=settings.max_import_bytes,
            timeout_s=settings.max_import_s,
            at_once=1,
        )
    )


def _code(error: DatasetError | UploadTooLarge) -> str:
    """As a synchronous upload is answered."""
    return error.code if isinstance(error, DatasetError) else "body_too_large"


def _result(jobs: JobQueue, dataset: DatasetRecord) -> dict[str, JsonValue]:
    """What the job has made; queues the preparation of a data set whose default is `studio`."""
    result: dict[str, JsonValue] = {"dataset": dataset.id}
    if dataset.normalise == "as_is":
        return result
    try:
        return result | {"preparation": queue_preparation(jobs, dataset.id)}
    except QueueFull:
        return result | {"preparation": None, "preparation_refused": REFUSED}
