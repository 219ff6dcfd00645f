"""Idempotency keys: a request that is sent twice with the same key takes effect once.

The first request with a key reserves the id of what it creates, by a compare-and-set in storage. A
later request, even a concurrent one or one after a crash, gets the same id, and creating what
already exists under an id has no effect.
"""

import hashlib
import re
from datetime import timedelta

from pydantic import BaseModel, ValidationError

from worker import damage
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import new_id, now
from worker.storage import ObjectExists, ObjectNotFound, Storage

FOLDER = "idempotency"
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
KEPT = timedelta(days=1)  # at least: all keys of a day are deleted together


class KeyReused(ValueError):
    """The key was used with a different request before."""


class Reservation(BaseModel):
    """What is stored of a key: the request's hash, and the id of what the request creates."""

    request_sha256: str
    made_id: str


def reserve(storage: Storage, prefix: str, scope: str, key: str, request: bytes) -> str:
    """The id of what `request` creates: a new one, or that of the first request with this key.

    `scope` names the client and the route: the same key in another scope is a different key.

    Raises:
        KeyReused: the first request with this key was a different one.
        RecordDamaged: what is stored of the key is damaged.
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
        if DAY.fullmatch(day) and day < _day(1):
            storage.clear(f"{FOLDER}/{day}")


def _day(age: int) -> str:
    return (now() - age * KEPT).strftime("%Y-%m-%d")


def _read(storage: Storage, path: str) -> Reservation | None:
    try:
        return Reservation.model_validate_json(storage.read(path))
    except ObjectNotFound:
        return None
    except ValidationError as error:
        damage.report(storage, "idempotency", path)
        raise RecordDamaged("what this Idempotency-Key stands for is damaged") from error
