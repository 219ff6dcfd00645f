"""Direct uploads: clients send zips straight to the object store, by a presigned URL.

An upload needs no record: its id holds the time of issue, and its object shows that it was sent.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from worker.schemas.jobs import is_id, made_at, new_id, now
from worker.storage import Storage

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


def forget_abandoned(storage: Storage) -> int:
    """Delete uploads that were not completed within a day; returns their number."""
    forgotten = 0
    for key in storage.keys(FOLDER):
        upload_id = key.removeprefix(f"{FOLDER}/")
        if is_id("up", upload_id) and now() - made_at(upload_id) > KEPT:
            storage.delete(key)
            forgotten += 1
    return forgotten
