"""Leases and live progress of processes in Redis, and turns: locks of periodic tasks.

A lease decides nothing about a job. When one has run out, the reconciler moves the job in the
ledger, whose compare-and-set refuses a stale process.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import Redis, RedisError

logger = logging.getLogger(__name__)

FIRST_SEEN = "vitrine:first-seen"  # when this Redis was first used, by its clock; gone by a wipe
PROGRESS_KEPT_MS = 86_400_000
REPORTING = "vitrine:shown"  # set: names of the processes that have reported progress


class Leases:
    """Leases by name: the id of the delivery that a process works on."""

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self.redis = redis
        self.lease_s = lease_s
        self._away_at = time.monotonic()  # when this process failed to reach Redis, or began

    def renew(self, name: str, progress: str | None = None) -> None:
        """Renew the lease `name` for `lease_s` and store the progress, JSON, if it is given."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.set(_lease_key(name), 1, px=int(self.lease_s * 1000))
            if progress is not None:
                pipeline.set(_progress_key(name), progress, px=PROGRESS_KEPT_MS)
                pipeline.sadd(REPORTING, name)
            pipeline.execute()

    def drop(self, name: str) -> None:
        """Drop the lease and progress of a process that has ended or is known to be dead."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(_lease_key(name), _progress_key(name))
            pipeline.srem(REPORTING, name)
            pipeline.execute()

    def is_held(self, name: str) -> bool:
        """Whether the lease `name` has been renewed within `lease_s`."""
        return bool(self.redis.exists(_lease_key(name)))

    def progress(self, name: str) -> str | None:
        """The progress that the process of this name has reported last."""
        shown = self.redis.get(_progress_key(name))
        return None if shown is None else str(shown)

    def all_progress(self) -> dict[str, str]:
        """The last progress of every process that holds its lease, by its name."""
        names = [str(name) for name in self.redis.smembers(REPORTING)]
        living = [name for name in names if self.is_held(name)]
        if gone := set(names) - set(living):
            self.redis.srem(REPORTING, *gone)
        return {name: shown for name in living if (shown := self.progress(name)) is not None}

    def can_be_judged(self) -> bool:
        """Whether a missing lease means that its process is dead.

        False for `lease_s` after Redis was started or wiped, after this process failed to reach it,
        and after this process has started: live processes may not have renewed their leases yet.
        """
        seconds, microseconds = self.redis.time()
        self.redis.set(FIRST_SEEN, seconds + microseconds / 1e6, nx=True)
        known_s = seconds + microseconds / 1e6 - float(str(self.redis.get(FIRST_SEEN)))
        up_s = self.redis.info("server")["uptime_in_seconds"]
        reached_s = time.monotonic() - self._away_at
        return bool(min(known_s, up_s, reached_s) > self.lease_s)

    def check(self) -> None:
        """Raise RedisError unless Redis answers and takes writes."""
        self.redis.set("vitrine:check", 1, px=1000)

    def note_outage(self) -> None:
        """Note that Redis does not answer, or refuses what it is asked: see `can_be_judged`."""
        self._away_at = time.monotonic()

    def take_turn(self, duty: str, every_s: float) -> bool:
        """Whether this process gets the turn for `duty`, which is given once in `every_s`."""
        key = f"vitrine:turn:{duty}"
        try:
            return bool(self.redis.set(key, 1, nx=True, px=int(every_s * 1000)))
        except RedisError:
            self.note_outage()
            raise

    def end_turn(self, duty: str) -> None:
        """End the turn early, so that the next process may take it."""
        self.redis.delete(f"vitrine:turn:{duty}")


@contextmanager
def renewing(lease_s: float, renew: Callable[[], None]) -> Iterator[None]:
    """Call `renew` every quarter of `lease_s` in a thread until the block ends; logs RedisError."""
    over = threading.Event()

    def renew_on() -> None:
        while not over.wait(lease_s / 4):
            try:
                renew()
            except RedisError:
                logger.warning("Redis is away: a lease was not renewed")

    thread = threading.Thread(target=renew_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _lease_key(name: str) -> str:
    return f"vitrine:lease:{name}"


def _progress_key(name: str) -> str:
    return f"vitrine:progress:{name}"
