"""Idempotency keys: a request that is sent twice with the same key takes effect once.

The first request with a key reserves the id of what it creates, by a compare-and-set in storage. A
later request, even a concurrent one or one after a crash, gets the same id, and creating what
already exists under an id has no effect. A request that creates nothing keeps, in the same way,
what its answer is made from again.
"""

import hashlib
import re
from datetime import timedelta

from pydantic import BaseModel, JsonValue, ValidationError

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
    answer: dict[str, JsonValue] | None = None  # of a request that creates nothing

    @classmethod
    def of(
        cls, request: bytes, made_id: str, answer: dict[str, JsonValue] | None = None
    ) -> "Reservation":
        """What is stored for a request."""
        digest = hashlib.sha256(request).hexdigest()
        return cls(request_sha256=digest, made_id=made_id, answer=answer)


def name_of(scope: str, key: str) -> str:
    """The name under which a key is stored.

    `scope` names the client and the route: the same key in another scope is a different key.
    """
    return hashlib.sha256(f"{scope}\n{key}".encode()).hexdigest()


def reserve(storage: Storage, prefix: str, name: str, request: bytes) -> str:
    """The id of what `request` creates: a new one, or that of the first request with this key.

    Raises:
        KeyReused: the first request with this key was a different one.
        RecordDamaged: what is stored of the key is damaged.
    """
    return keep(storage, name, Reservation.of(request, new_id(prefix))).made_id


def keep(storage: Storage, name: str, mine: Reservation) -> Reservation:
    """Store a reservation, unless there is one for this key; returns the one that is stored.

    Raises:
        KeyReused, RecordDamaged: as `reserve` does.
    """
    found, today = _find(storage, name), _path(name, age=0)
    if found is None:
        try:
            storage.create(today, mine.model_dump_json().encode())
        except ObjectExists:
            found = _read(storage, today)
    return _of_same_request(found or mine, mine.request_sha256)


def find(storage: Storage, name: str, request: bytes) -> Reservation | None:
    """The reservation of an earlier request with this key; None where there was none.

    Raises:
        KeyReused, RecordDamaged: as `reserve` does.
    """
    found = _find(storage, name)
    digest = hashlib.sha256(request).hexdigest()
    return None if found is None else _of_same_request(found, digest)


def forget_old(storage: Storage) -> None:
    """Delete the keys of the day before yesterday and earlier."""
    for day in storage.folders(FOLDER):
        if DAY.fullmatch(day) and day < _day(1):
            storage.clear(f"{FOLDER}/{day}")


def _find(storage: Storage, name: str) -> Reservation | None:
    return _read(storage, _path(name, age=1)) or _read(storage, _path(name, age=0))


def _of_same_request(first: Reservation, request_sha256: str) -> Reservation:
    if first.request_sha256 != request_sha256:
        raise KeyReused("this Idempotency-Key came with another request; use a new one")
    return first


def _path(name: str, *, age: int) -> str:
    """Where a key is stored that came `age` days ago."""
    return f"{FOLDER}/{_day(age)}/{name}.json"


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
