"""Server-Sent Events (SSE) of a job, resumable with `Last-Event-ID`."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import cast

import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.ledger.events import Event, place, stream_key
from worker.ledger.ledger import Ledger
from worker.schemas.jobs import TERMINAL, JobRecord

QUIET_S = 10.0  # without events, after which a keep-alive comment is sent
AT_ONCE = 500  # events of one read

Streams = Iterable[tuple[str, list[tuple[str, dict[str, str]]]]]


def events_after(ledger: Ledger, record: JobRecord, after: str) -> list[Event]:
    """Events of a job after the event id `after`, oldest first.

    The last event of an ended job is its final status, even if Redis has lost all others.
    """
    events = ledger.events.kept(ledger.storage, record.id) if record.terminal else []
    events = events or ledger.events.read(record.id)
    if record.terminal and not (events and _is_last(events[-1])):
        moment = max(round(1000 * record.moved_at.timestamp()), place(after)[0] + 1)
        data = {"status": record.status, "attempt": record.attempt}
        events.append(Event(id=f"{moment}-0", kind="status", data={**data}))
    return [event for event in events if event.place > place(after)]


class EventStreams:
    """Event streams of this process; they end when it shuts down."""

    def __init__(self, ledger: Ledger, redis: Redis) -> None:
        self.ledger = ledger
        self.redis = redis
        self.shutdown = asyncio.Event()  # set when the server shuts down

    async def follow(self, record: JobRecord, after: str) -> AsyncIterator[bytes]:
        """Stream a job's events after the event id `after`, past and future, until the job ends.

        The stream breaks off if Redis is unreachable or the process shuts down; clients reconnect
        with the id of the last event that they received.
        """
        while not record.terminal:
            try:
                events = await self._new(record.id, after)
            except RedisError:
                return
            for event in events:
                yield _encoded(event)
                after = event.id
                if _is_last(event):
                    return
            if self.shutdown.is_set():
                return
            if not events:
                yield KEEPALIVE_COMMENT
                record = await anyio.to_thread.run_sync(self.ledger.records.read, record.id)
        for event in await anyio.to_thread.run_sync(events_after, self.ledger, record, after):
            yield _encoded(event)

    async def _new(self, job_id: str, after: str) -> list[Event]:
        """Wait for the next events; [] after `QUIET_S` without any, or at shutdown."""
        reading = asyncio.ensure_future(_read(self.redis, job_id, after))
        ended = asyncio.ensure_future(self.shutdown.wait())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else []
        finally:
            reading.cancel()
            ended.cancel()


async def _read(redis: Redis, job_id: str, after: str) -> list[Event]:
    found = await redis.xread({stream_key(job_id): after}, AT_ONCE, round(1000 * QUIET_S))
    # redis-py's annotations leave open whether answers are decoded.
    streams = cast("Streams", found.items() if isinstance(found, dict) else found or [])
    return [Event.of(*entry) for _, entries in streams for entry in entries]


def _is_last(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in TERMINAL


def _encoded(event: Event) -> bytes:
    return format_sse_event(event=event.kind, data_str=json.dumps(event.data), id=event.id)
