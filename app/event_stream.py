"""Server-Sent Events (SSE) of a job, resumable with `Last-Event-ID`."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.typing import KeyT, StreamIdT

from worker.ledger.events import Event, place, stream_key
from worker.ledger.ledger import Ledger
from worker.schemas.jobs import TERMINAL, JobRecord

logger = logging.getLogger(__name__)

QUIET_S = 10.0  # without events, after which a keep-alive comment is sent
AT_ONCE = 500  # events of one read
KEPT = (
    1000  # events of a followed job in memory; older ones are read again where they are asked for
)

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


@dataclass
class _Feed:
    """The newest events of one job, read once for all streams that follow it."""

    position: str  # id of the last event read
    followers: int = 0
    start: tuple[int, ...] = ()  # `events` holds every event after this one
    events: deque[Event] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_broken: bool = False  # reading has failed

    def add(self, events: Iterable[Event]) -> None:
        """Append events and wake the followers."""
        for event in events:
            self.events.append(event)
            self.position = event.id
            if len(self.events) > KEPT:
                self.start = self.events.popleft().place
        self.wake()

    def wake(self) -> None:
        """Let all followers look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class EventStreams:
    """Event streams of this process; they end when it shuts down.

    One task reads the new events of all followed jobs with one connection, however many clients
    follow them: a connection for each would be more than Redis and its pool allow.
    """

    def __init__(self, ledger: Ledger, redis: Redis) -> None:
        self.ledger = ledger
        self.redis = redis
        self.shutdown = asyncio.Event()  # set when the server shuts down
        self._feeds: dict[str, _Feed] = {}  # by job id
        self._reading: asyncio.Task[None] | None = None

    async def follow(self, record: JobRecord, after: str) -> AsyncIterator[bytes]:
        """Stream a job's events after the event id `after`, past and future, until the job ends.

        The stream breaks off if Redis is unreachable or the process shuts down; clients reconnect
        with the id of the last event that they received.
        """
        if not record.terminal:
            feed = self._join(record.id, after)
            try:
                async for event in self._live(feed, record, after):
                    if event is None:
                        yield KEEPALIVE_COMMENT
                        continue
                    yield _encoded(event)
                    after = event.id
                    if _is_last(event):
                        return
            except RedisError:
                return
            finally:
                self._leave(feed, record.id)
            if self.shutdown.is_set():
                return
            record = await anyio.to_thread.run_sync(self.ledger.records.read, record.id)
        for event in await anyio.to_thread.run_sync(events_after, self.ledger, record, after):
            yield _encoded(event)

    async def _live(
        self, feed: _Feed, record: JobRecord, after: str
    ) -> AsyncIterator[Event | None]:
        """New events of a job; None for each `QUIET_S` without any. Ends with the job or process.

        Raises:
            RedisError: Redis is unreachable.
        """
        while True:
            events = await self._next(feed, record.id, after)
            for event in events:
                yield event
                after = event.id
            if self.shutdown.is_set():
                return
            if not events:
                yield None
                newest = await anyio.to_thread.run_sync(self.ledger.records.read, record.id)
                if newest.terminal:
                    return

    def _join(self, job_id: str, after: str) -> _Feed:
        """The feed of a job, which is read from now on."""
        feed = self._feeds.get(job_id)
        if feed is None:
            feed = self._feeds[job_id] = _Feed(position=after, start=place(after))
            # The task waits for the other jobs alone; reading takes nothing away, so it may stop.
            if self._reading is not None:
                self._reading.cancel()
            self._reading = asyncio.create_task(self._read_feeds())
        feed.followers += 1
        return feed

    def _leave(self, feed: _Feed, job_id: str) -> None:
        feed.followers -= 1
        if feed.followers == 0 and self._feeds.get(job_id) is feed:
            del self._feeds[job_id]
            if not self._feeds and self._reading is not None:
                self._reading.cancel()

    async def _next(self, feed: _Feed, job_id: str, after: str) -> list[Event]:
        """Wait for events after `after`; [] after `QUIET_S` without any, or at shutdown.

        Raises:
            RedisError: Redis is unreachable.
        """
        changed = feed.changed  # before looking, so that nothing is missed in between
        if events := await self._available(feed, job_id, after):
            return events
        waiting = [asyncio.ensure_future(each.wait()) for each in (changed, self.shutdown)]
        await asyncio.wait(waiting, timeout=QUIET_S, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        return await self._available(feed, job_id, after)

    async def _available(self, feed: _Feed, job_id: str, after: str) -> list[Event]:
        """Events after `after` that are there now, from the feed or, older ones, from Redis."""
        if feed.is_broken:
            raise RedisConnectionError("the job's events cannot be read")
        if place(after) < feed.start:
            key = stream_key(job_id)
            return (await _read(self.redis, {key: after}, block_s=None)).get(key, [])
        return [event for event in feed.events if event.place > place(after)]

    async def _read_feeds(self) -> None:
        """Read new events of all followed jobs until nobody follows one, or reading fails."""
        try:
            while self._feeds:
                positions = {stream_key(job_id): f.position for job_id, f in self._feeds.items()}
                found = await _read(self.redis, positions, block_s=QUIET_S)
                for job_id, feed in self._feeds.items():
                    if events := found.get(stream_key(job_id)):
                        feed.add(events)
        except Exception as error:  # raising would leave all followers waiting
            if not isinstance(error, RedisError):
                logger.exception("the events of jobs cannot be read")
            feeds, self._feeds = self._feeds, {}
            for feed in feeds.values():
                feed.is_broken = True
                feed.wake()


async def _read(
    redis: Redis, positions: Mapping[str, str], block_s: float | None
) -> dict[str, list[Event]]:
    """New events by stream, each after the id in `positions`; {} where none come in time."""
    block_ms = None if block_s is None else round(1000 * block_s)
    wanted: dict[KeyT, StreamIdT] = dict(positions.items())
    found = await redis.xread(wanted, AT_ONCE, block_ms)
    # redis-py's annotations leave open whether answers are decoded.
    streams = cast("Streams", found.items() if isinstance(found, dict) else found or [])
    return {name: [Event.of(*entry) for entry in entries] for name, entries in streams}


def _is_last(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in TERMINAL


def _encoded(event: Event) -> bytes:
    return format_sse_event(event=event.kind, data_str=json.dumps(event.data), id=event.id)
