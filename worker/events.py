"""What happens to a job, as a Redis stream while it lives and a file beside its record afterwards.

Events are for onlookers: what they miss while Redis is away, the record still tells.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Literal, cast

from pydantic import BaseModel, JsonValue
from redis import Redis, RedisError
from redis.typing import EncodableT

from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

MOST = 20_000  # the older ones of a longer job are dropped
FORGOTTEN_AFTER_S = 3600  # by Redis, once they are kept in storage

Kind = Literal["status", "progress", "metric", "sample", "log"]


class Event(BaseModel):
    """One thing that happened; ids grow."""

    id: str
    kind: Kind
    data: dict[str, JsonValue]

    @classmethod
    def of(cls, entry_id: str, fields: Mapping[str, str]) -> "Event":
        """An entry of the stream."""
        return cls.model_validate(
            {"id": entry_id, "kind": fields["kind"], "data": json.loads(fields["data"])}
        )

    @property
    def place(self) -> tuple[int, ...]:
        """Its id as numbers, to be compared."""
        return place(self.id)


class Events:
    """The events of all jobs."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def add(self, job_id: str, kind: Kind, data: Mapping[str, JsonValue]) -> bool:
        """Append one; without Redis it is lost. Whether it was appended."""
        fields: dict[EncodableT, EncodableT] = {"kind": kind, "data": json.dumps(data)}
        try:
            self.redis.xadd(stream_key(job_id), fields, maxlen=MOST, approximate=True)
        except RedisError:
            logger.warning("Redis is away: an event of %s is lost", job_id)
            return False
        return True

    def read(self, job_id: str) -> list[Event]:
        """Those in Redis, oldest first: all of a job that lives, or has ended lately."""
        # redis-py's annotations leave open whether answers are decoded.
        entries = cast(
            "Iterable[tuple[str, dict[str, str]]]", self.redis.xrange(stream_key(job_id))
        )
        return [Event.of(number, fields) for number, fields in entries]

    def keep(self, storage: Storage, job_id: str) -> None:
        """File the events of a job that has ended."""
        try:
            events = self.read(job_id)
            if events:
                lines = "".join(f"{event.model_dump_json()}\n" for event in events)
                storage.put(_kept_key(job_id), lines.encode())
                self.redis.expire(stream_key(job_id), FORGOTTEN_AFTER_S)
        except RedisError:
            logger.warning("Redis is away: the events of %s are not kept", job_id)

    def kept(self, storage: Storage, job_id: str) -> list[Event]:
        """Those of a job that has ended; none where Redis was away at its end."""
        try:
            lines = storage.read(_kept_key(job_id)).splitlines()
        except ObjectNotFound:
            return []
        return [Event.model_validate_json(line) for line in lines]


def place(event_id: str) -> tuple[int, ...]:
    """An id as numbers, to be compared."""
    return tuple(int(part) for part in event_id.split("-"))


def stream_key(job_id: str) -> str:
    """The Redis stream of a job's events."""
    return f"vitrine:events:{job_id}"


def _kept_key(job_id: str) -> str:
    return f"jobs/events/{job_id}.jsonl"
