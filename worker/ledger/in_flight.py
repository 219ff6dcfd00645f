"""In-flight lease in Redis: refuses a duplicate request while the first one is being processed.

It only saves work and makes the client wait; storage guarantees that a thing is created once. So
the lease may be lost with Redis, and that of a dead process runs out by itself.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis, RedisError

from worker.ledger.leases import Leases, renewing

logger = logging.getLogger(__name__)


class RequestInFlight(RuntimeError):
    """The same request is being processed."""


@contextmanager
def in_flight(leases: Leases, name: str, *, needs_redis: bool = False) -> Iterator[None]:
    """Hold the lease `name` until the block ends.

    Without Redis, the block runs without a lease, unless it `needs_redis`.

    Raises:
        RequestInFlight: another request holds it.
        RedisError: the block `needs_redis`, and Redis is away.
    """
    key, token = f"vitrine:in-flight:{name}", secrets.token_hex(8)
    if not _take(leases, key, token, needs_redis=needs_redis):
        raise RequestInFlight("the first of these requests is still being worked on")

    def renew() -> None:
        leases.redis.pexpire(key, int(leases.lease_s * 1000))

    try:
        with renewing(leases.lease_s, renew):
            yield
    finally:
        _drop(leases.redis, key, token)


def _take(leases: Leases, key: str, token: str, *, needs_redis: bool) -> bool:
    try:
        return bool(leases.redis.set(key, token, nx=True, px=int(leases.lease_s * 1000)))
    except RedisError:
        if needs_redis:
            raise
        logger.warning("Redis is away: what %s stands for may be worked on twice", key)
        return True


def _drop(redis: Redis, key: str, token: str) -> None:
    try:
        if redis.get(key) == token:
            redis.delete(key)
    except RedisError:
        logger.warning("Redis is away: %s runs out by itself", key)
