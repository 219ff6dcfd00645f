"""Requests that may be sent twice and count once.

The first request with a key writes down the id of what it makes before it makes it, which storage
lets only one do. Whoever comes later, also at the same moment or after a crash, is given the same
id, and making what has an id already does nothing.
"""

import hashlib
from datetime import timedelta

from pydantic import BaseModel

from worker.jobs import new_id, now
from worker.storage import ObjectExists, ObjectNotFound, Storage

FOLDER = "idempotency"
KEPT = timedelta(days=1)  # at least: a day's keys are forgotten together


class KeyReused(ValueError):
    """The key came with another request before."""


class Reservation(BaseModel):
    """What a key stands for."""

    request_sha256: str
    made_id: str


def reserve(storage: Storage, prefix: str, scope: str, key: str, request: bytes) -> str:
    """The id of what `request` makes: a new one, or that of the first request with this key.

    `scope` is who asks, and for what: the same key elsewhere is another one.

    Raises:
        KeyReused: the first request was another one.
    """
    name = hashlib.sha256(f"{scope}\n{key}".encode()).hexdigest()
    today, yesterday = (f"{FOLDER}/{_day(age)}/{name}.json" for age in (0, 1))
    mine = Reservation(request_sha256=hashlib.sha256(request).hexdigest(), made_id=new_id(prefix))
    found = _read(storage, yesterday) or _read(storage, today)
    if found is None:
        try:
            storage.create(today, mine.model_dump_json().encode())
        except ObjectExists:
            found = _read(storage, today)
    first = found or mine
    if first.request_sha256 != mine.request_sha256:
        raise KeyReused("this Idempotency-Key came with another request; use a new one")
    return first.made_id


def forget_old(storage: Storage) -> None:
    """Delete the keys of the day before yesterday and earlier."""
    for day in storage.folders(FOLDER):
        if day < _day(1):
            storage.clear(f"{FOLDER}/{day}")


def _day(age: int) -> str:
    return (now() - age * KEPT).strftime("%Y-%m-%d")


def _read(storage: Storage, path: str) -> Reservation | None:
    try:
        return Reservation.model_validate_json(storage.read(path))
    except ObjectNotFound:
        return None
