"""Uploads that wait in the object store to become data sets.

Clients send them straight to the store, by a presigned URL, or leave them to an import job. An
upload needs no record: its id holds the time of issue, and its object shows that it was sent. The
ids of its data set and of its import job follow from its own.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from worker.ledger.records import JobNotFound, Records
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import JobRecord, derived_id, is_id, made_at, new_id, now
from worker.storage import ObjectNotFound, Storage

FOLDER = "uploads"
SIGNED_FOR = timedelta(hours=1)  # the upload must begin within this time
KEPT = timedelta(days=1)  # then an upload that was not completed is deleted


class UploadNotFound(LookupError):
    """No zip was sent for this upload id."""


class UploadTooLarge(ValueError):
    """The uploaded zip is larger than allowed."""


class UploadTicket(BaseModel):
    """A presigned URL for one zip: send it as the whole request body, by this method."""

    upload: str
    url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]  # that the request must have
    expires_at: datetime


def open_upload(storage: Storage) -> UploadTicket:
    """A new upload id, and a presigned URL that stores its object.

    Raises:
        CannotSign: the object store is a folder or memory.
    """
    upload_id = new_id("up")
    signed = storage.sign("PUT", key_of(upload_id), SIGNED_FOR)
    headers = {"Content-Type": "application/zip", **signed.headers}
    return UploadTicket(
        upload=upload_id, url=signed.url, headers=headers, expires_at=now() + SIGNED_FOR
    )


def key_of(upload_id: str) -> str:
    """Storage key of an upload's object."""
    return f"{FOLDER}/{upload_id}"


def import_id_of(upload_id: str) -> str:
    """The id of the job that imports an upload."""
    return derived_id("job", upload_id)


def check_size(storage: Storage, upload_id: str, max_bytes: int) -> int:
    """The size of an upload.

    Raises:
        UploadNotFound: no zip was sent, or it was deleted.
        UploadTooLarge: the zip has more than `max_bytes`.
    """
    try:
        size = storage.size(key_of(upload_id))
    except ObjectNotFound as error:
        raise UploadNotFound("nothing was sent for this upload, or it is gone") from error
    if size > max_bytes:
        raise UploadTooLarge(f"The zip may have at most {max_bytes} bytes.")
    return size


def is_being_imported(storage: Storage, upload_id: str) -> bool:
    """Whether the upload has an import job that has not ended."""
    job = _import_of(storage, upload_id)
    return job is not None and not job.terminal


def forget_abandoned(storage: Storage) -> int:
    """Delete uploads whose import has ended, or was not asked for within a day.

    Returns their number.
    """
    forgotten = 0
    for key in storage.keys(FOLDER):
        upload_id = key.removeprefix(f"{FOLDER}/")
        if not is_id("up", upload_id):
            continue
        job = _import_of(storage, upload_id)
        if now() - made_at(upload_id) > KEPT if job is None else job.terminal:
            storage.delete(key)
            forgotten += 1
    return forgotten


def _import_of(storage: Storage, upload_id: str) -> JobRecord | None:
    try:
        return Records(storage).read(import_id_of(upload_id))
    except (JobNotFound, RecordDamaged):  # damage has been reported
        return None
