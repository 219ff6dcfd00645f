"""Submission of import jobs: the zip is in the object store before its job is recorded."""

from typing import BinaryIO

from worker.datasets.datasets import DatasetStore
from worker.datasets.direct_uploads import UploadTooLarge, check_size, import_id_of, key_of
from worker.ledger.in_flight import in_flight
from worker.queue.queue import JobQueue
from worker.schemas.dataset_import import ImportJob
from worker.schemas.jobs import JobRecord
from worker.storage import StorageFull


def submit_zip(queue: JobQueue, source: BinaryIO, job: ImportJob) -> JobRecord:
    """Store a zip and queue its import, unless the upload has an import job already.

    Raises:
        RequestInFlight: another request with this upload's id is being processed.
        QueueFull, TargetRefused, Unresolved: as `JobQueue.submit` does; nothing is stored.
    """
    storage, job_id, key = queue.ledger.storage, import_id_of(job.upload), key_of(job.upload)
    known = queue.ledger.records.find(job_id)
    if known is not None:
        return known
    with in_flight(queue.leases, job.upload):
        try:
            return queue.submit("import", job, job_id, lambda: storage.put(key, source))
        except StorageFull:  # there was room for the zip, but not for the job's record
            storage.delete(key)
            raise


def submit_sent(queue: JobQueue, job: ImportJob) -> JobRecord:
    """Queue the import of a zip that was sent to the store; a second call has no further effect.

    Raises:
        UploadNotFound: no zip was sent, or it was deleted.
        UploadTooLarge: the zip has too many bytes; it is deleted.
        QueueFull, TargetRefused, Unresolved: as `JobQueue.submit` does.
    """
    storage = queue.ledger.storage

    def check() -> None:
        if DatasetStore(storage).exists(job.dataset):
            return  # the job finds it
        try:
            check_size(storage, job.upload, queue.settings.max_upload_bytes)
        except UploadTooLarge:
            storage.delete(key_of(job.upload))
            raise

    return queue.submit("import", job, import_id_of(job.upload), check)
