"""Zips that clients send straight to the object store, by a signed address that we hand out.

There is no record: an upload's id says when it was handed out, and its object that it was sent.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from worker.jobs import made_at, new_id, now
from worker.storage import Storage

FOLDER = "uploads"
SIGNED_FOR = timedelta(hours=1)  # within this it has to begin
KEPT = timedelta(days=1)  # what nobody completes


class UploadNotFound(LookupError):
    """Nothing was sent under this id."""


class UploadTooLarge(ValueError):
    """More was sent than a data set's zip may hold."""


class UploadTicket(BaseModel):
    """Where to send a zip: one request of this method, its body the zip alone."""

    upload: str
    url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]  # to send along
    expires_at: datetime


def open_upload(storage: Storage) -> UploadTicket:
    """Let a client send one object.

    Raises:
        CannotSign: the object store is not in a cloud.
    """
    upload_id = new_id("up")
    signed = storage.sign("PUT", key_of(upload_id), SIGNED_FOR)
    headers = {"Content-Type": "application/zip", **signed.headers}
    return UploadTicket(
        upload=upload_id, url=signed.url, headers=headers, expires_at=now() + SIGNED_FOR
    )


def key_of(upload_id: str) -> str:
    """Where its object is."""
    return f"{FOLDER}/{upload_id}"


def forget_abandoned(storage: Storage) -> None:
    """Delete what was sent and not completed within a day."""
    for key in storage.keys(FOLDER):
        if now() - made_at(key) > KEPT:
            storage.delete(key)
