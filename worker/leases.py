"""Signs of life in Redis: who works, how far they are, and whose turn it is to look after all.

Nothing here decides what becomes of a job: a lease that is gone is a reason to ask the ledger,
which refuses whoever is wrong.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import Redis, RedisError

logger = logging.getLogger(__name__)

FIRST_SEEN = "vitrine:first-seen"  # by Redis's clock; gone when Redis was wiped
PROGRESS_KEPT_MS = 86_400_000
SHOWN = "vitrine:shown"  # the names of all whose progress is known


class Leases:
    """Leases by the names of the deliveries that processes work on."""

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self.redis = redis
        self.lease_s = lease_s

    def renew(self, name: str, progress: str | None = None) -> None:
        """Show that the process of this name lives and, as JSON, how far it is."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.set(_lease_key(name), 1, px=int(self.lease_s * 1000))
            if progress is not None:
                pipeline.set(_progress_key(name), progress, px=PROGRESS_KEPT_MS)
                pipeline.sadd(SHOWN, name)
            pipeline.execute()

    def drop(self, name: str) -> None:
        """The process of this name has ended, or is known to be dead before its lease runs out."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(_lease_key(name), _progress_key(name))
            pipeline.srem(SHOWN, name)
            pipeline.execute()

    def is_held(self, name: str) -> bool:
        """Whether the process of this name has shown within the lease's time that it lives."""
        return bool(self.redis.exists(_lease_key(name)))

    def progress(self, name: str) -> str | None:
        """What the process of this name has shown last."""
        shown = self.redis.get(_progress_key(name))
        return None if shown is None else str(shown)

    def all_progress(self) -> list[str]:
        """What all processes that live have shown last."""
        names = [str(name) for name in self.redis.smembers(SHOWN)]
        living = [name for name in names if self.is_held(name)]
        if gone := set(names) - set(living):
            self.redis.srem(SHOWN, *gone)
        return [shown for name in living if (shown := self.progress(name)) is not None]

    def can_be_judged(self) -> bool:
        """Whether a missing lease means a death.

        Not while the living may still be on their way back to a Redis that was away, or wiped.
        """
        seconds, microseconds = self.redis.time()
        self.redis.set(FIRST_SEEN, seconds + microseconds / 1e6, nx=True)
        known_s = seconds + microseconds / 1e6 - float(str(self.redis.get(FIRST_SEEN)))
        up_s = self.redis.info("server")["uptime_in_seconds"]
        return bool(min(known_s, up_s) > self.lease_s)

    def take_turn(self, duty: str, every_s: float) -> bool:
        """Whether this process is the one to see to a duty, which one does every `every_s`."""
        return bool(self.redis.set(f"vitrine:turn:{duty}", 1, nx=True, px=int(every_s * 1000)))

    def end_turn(self, duty: str) -> None:
        """This process has seen to it before its time was over; others may do so again."""
        self.redis.delete(f"vitrine:turn:{duty}")


@contextmanager
def renewing(lease_s: float, renew: Callable[[], None]) -> Iterator[None]:
    """Call `renew` in time, in a thread, until the block ends. Redis away is no reason to stop."""
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
