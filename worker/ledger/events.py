"""Event log of a job: a Redis stream while the job runs, a JSON Lines file in storage afterwards.

Events are for display only. Those of a time when Redis is away are lost; the job's record is not.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Literal, cast

from pydantic import BaseModel, JsonValue, ValidationError
from redis import Redis, RedisError
from redis.typing import EncodableT

from worker import damage
from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

MOST = 20_000  # events of a job; older ones are dropped
FORGOTTEN_AFTER_S = 3600  # when the stream expires, once the events are kept in storage

Kind = Literal["status", "progress", "metric", "sample", "log"]


class Event(BaseModel):
    """One event of a job; ids increase."""

    id: str
    kind: Kind
    data: dict[str, JsonValue]

    @classmethod
    def of(cls, entry_id: str, fields: Mapping[str, str]) -> "Event":
        """The event of a stream entry."""
        return cls.model_validate(
            {"id": entry_id, "kind": fields["kind"], "data": json.loads(fields["data"])}
        )

    @property
    def place(self) -> tuple[int, ...]:
        """The id as numbers, which sort in order of time."""
        return place(self.id)


class Events:
    """The events of all jobs."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def add(self, job_id: str, kind: Kind, data: Mapping[str, JsonValue]) -> bool:
        """Append an event; False where Redis is away and the event is lost."""
        fields: dict[EncodableT, EncodableT] = {"kind": kind, "data": json.dumps(data)}
        try:
            self.redis.xadd(stream_key(job_id), fields, maxlen=MOST, approximate=True)
        except RedisError:
            logger.warning("Redis is away: an event of %s is lost", job_id)
            return False
        return True

    def read(self, job_id: str) -> list[Event]:
        """The events in Redis, oldest first: those of a job that runs or has ended lately."""
        # redis-py's annotations leave open whether answers are decoded.
        entries = cast(
            "Iterable[tuple[str, dict[str, str]]]", self.redis.xrange(stream_key(job_id))
        )
        return [Event.of(number, fields) for number, fields in entries]

    def keep(self, storage: Storage, job_id: str) -> None:
        """Copy the events of an ended job from Redis to storage."""
        try:
            events = self.read(job_id)
            if events:
                lines = "".join(f"{event.model_dump_json()}\n" for event in events)
                storage.put(_kept_key(job_id), lines.encode())
                self.redis.expire(stream_key(job_id), FORGOTTEN_AFTER_S)
        except RedisError:
            logger.warning("Redis is away: the events of %s are not kept", job_id)

    def kept(self, storage: Storage, job_id: str) -> list[Event]:
        """The stored events of an ended job; empty where Redis was away at its end.

        A damaged event is left out.
        """
        key, found = _kept_key(job_id), []
        try:
            lines = storage.read(key).splitlines()
        except ObjectNotFound:
            return []
        for line in lines or [b""]:  # an empty file is damaged: it is written with an event
            try:
                found.append(Event.model_validate_json(line))
            except ValidationError:
                damage.report(storage, "events", key)
        return found

    def delete(self, storage: Storage, job_id: str) -> None:
        """Remove the events of a job that is deleted; raises RedisError."""
        storage.delete(_kept_key(job_id))
        self.redis.delete(stream_key(job_id))


def place(event_id: str) -> tuple[int, ...]:
    """An event id as numbers, which sort in order of time."""
    return tuple(int(part) for part in event_id.split("-"))


def stream_key(job_id: str) -> str:
    """The Redis stream of a job's events."""
    return f"vitrine:events:{job_id}"


def _kept_key(job_id: str) -> str:
    return f"jobs/events/{job_id}.jsonl"
