"""A job's events as Server-Sent Events, which a client that lost its connection goes on with."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import cast

import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.events import Event, place, stream_key
from worker.jobs import TERMINAL, JobRecord
from worker.ledger import Ledger

QUIET_S = 10.0  # between two signs that the connection lives
AT_ONCE = 500

Streams = Iterable[tuple[str, list[tuple[str, dict[str, str]]]]]


def past(ledger: Ledger, record: JobRecord, after: str) -> list[Event]:
    """What has happened to a job behind the event `after`, oldest first.

    Of one that has ended, the last is its status, also where Redis has lost all others.
    """
    events = ledger.events.kept(ledger.storage, record.id) if record.terminal else []
    events = events or ledger.events.read(record.id)
    if record.terminal and not (events and _is_last(events[-1])):
        moment = max(round(1000 * record.moved_at.timestamp()), place(after)[0] + 1)
        data = {"status": record.status, "attempt": record.attempt}
        events.append(Event(id=f"{moment}-0", kind="status", data={**data}))
    return [event for event in events if event.place > place(after)]


class EventStreams:
    """Those of one process, which end with it."""

    def __init__(self, ledger: Ledger, redis: Redis) -> None:
        self.ledger = ledger
        self.redis = redis
        self.ending = asyncio.Event()  # to be set when the process is about to end

    async def follow(self, record: JobRecord, after: str) -> AsyncIterator[bytes]:
        """A job's events behind `after`, those that have happened and those to come, until it ends.

        They break off where Redis goes away or the process ends: clients come again with the last
        id that they have seen.
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
            if self.ending.is_set():
                return
            if not events:
                yield KEEPALIVE_COMMENT
                record = await anyio.to_thread.run_sync(self.ledger.records.read, record.id)
        for event in await anyio.to_thread.run_sync(past, self.ledger, record, after):
            yield _encoded(event)

    async def _new(self, job_id: str, after: str) -> list[Event]:
        """The next events, once there are any; none after a while, or where the process ends."""
        reading = asyncio.ensure_future(_read(self.redis, job_id, after))
        ended = asyncio.ensure_future(self.ending.wait())
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
