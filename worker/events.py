"""What happens to a job, as a Redis stream while it lives and a file beside its record afterwards.

Events are for onlookers: what they miss while Redis is away, the record still tells.
"""

import json
import logging
from collections.abc import Iterable
from typing import cast

from pydantic import JsonValue
from redis import Redis, RedisError
from redis.typing import EncodableT

from worker.storage import Storage

logger = logging.getLogger(__name__)

MOST = 10_000  # the older ones of a longer job are dropped
FORGOTTEN_AFTER_S = 3600  # by Redis, once they are kept in storage

Entry = tuple[str, dict[str, str]]
Event = dict[str, JsonValue]


class Events:
    """The events of all jobs: `status`, `progress` and `sample`, each with an id that grows."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def add(self, job_id: str, kind: str, data: Event) -> None:
        """Append one; without Redis it is lost."""
        fields: dict[EncodableT, EncodableT] = {"kind": kind, "data": json.dumps(data)}
        try:
            self.redis.xadd(_stream(job_id), fields, maxlen=MOST, approximate=True)
        except RedisError:
            logger.warning("Redis is away: an event of %s is lost", job_id)

    def read(self, job_id: str, after: str = "-") -> list[Event]:
        """Those behind the id `after`, oldest first, while the job lives."""
        first = after if after == "-" else f"({after}"
        # redis-py's annotations leave open whether answers are decoded.
        entries = cast("Iterable[Entry]", self.redis.xrange(_stream(job_id), min=first))
        return [
            {"id": number, "kind": fields["kind"], "data": json.loads(fields["data"])}
            for number, fields in entries
        ]

    def keep(self, storage: Storage, job_id: str) -> None:
        """File the events of a job that has ended."""
        try:
            events = self.read(job_id)
            if events:
                lines = "".join(f"{json.dumps(event)}\n" for event in events)
                storage.put(events_key(job_id), lines.encode())
                self.redis.expire(_stream(job_id), FORGOTTEN_AFTER_S)
        except RedisError:
            logger.warning("Redis is away: the events of %s are not kept", job_id)


def events_key(job_id: str) -> str:
    """Where they are kept, a line of JSON each."""
    return f"jobs/events/{job_id}.jsonl"


def _stream(job_id: str) -> str:
    return f"vitrine:events:{job_id}"
