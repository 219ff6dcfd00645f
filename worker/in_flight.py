"""Who is at work on a request that came twice: a lease in Redis, so that the other need not be.

It saves work and tells a client to wait; that a thing is made once is for storage to see to. So it
may be lost, with Redis or with the process that held it, which then blocks nobody for long.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError

from worker.leases import Leases, renewing

logger = logging.getLogger(__name__)


class RequestInFlight(RuntimeError):
    """The same request is being worked on at this moment."""


@contextmanager
def in_flight(leases: Leases, name: str) -> Iterator[None]:
    """Hold the lease of this name until the block ends. Redis away is no reason to stop.

    Raises:
        RequestInFlight: another holds it.
    """
    key, token = f"vitrine:in-flight:{name}", secrets.token_hex(8)
    if not _take(leases, key, token):
        raise RequestInFlight("the first of these requests is still being worked on")

    def renew() -> None:
        leases.redis.pexpire(key, int(leases.lease_s * 1000))

    try:
        with renewing(leases.lease_s, renew):
            yield
    finally:
        _drop(leases.redis, key, token)


def _take(leases: Leases, key: str, token: str) -> bool:
    try:
        return bool(leases.redis.set(key, token, nx=True, px=int(leases.lease_s * 1000)))
    except RedisError:
        logger.warning("Redis is away: what %s stands for may be worked on twice", key)
        return True


def _drop(redis: Redis, key: str, token: str) -> None:
    try:
        if redis.get(key) == token:
            redis.delete(key)
    except RedisError:
        logger.warning("Redis is away: %s runs out by itself", key)
