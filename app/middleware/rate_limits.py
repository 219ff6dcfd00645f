"""Rate limiting: a sliding window per client, kept in Redis for all API processes together.

Any window of the limit's length holds at most the allowed number of requests; a fixed window would
let twice as many through around its end. It costs Redis one list entry for each request within the
window, which the limit bounds. The clocks of all API machines must agree.
"""

import logging
import math
import re
import time
from typing import NamedTuple

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis import RedisError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import ApiKeys, digest_of, find_key, sent_key
from app.errors import Answer, problem_response
from app.middleware.headers import first_headers, text_of

logger = logging.getLogger(__name__)

UNLIMITED = re.compile(r"/metrics|/docs|/openapi\.json|/health/.*|/static/.*")
REDIS_TIMEOUT_S = 0.25  # timeout of each of the two Redis calls
REDIS_RETRY_S = 5.0  # pause after a Redis error, in which requests pass without a limit


def connect(url: str) -> Redis:
    """A Redis client with a short timeout and without retries."""
    return Redis.from_url(
        url,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        socket_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


class LimitStatus(NamedTuple):
    """Whether a request may pass, and the `RateLimit` headers of its answer."""

    allowed: bool
    headers: dict[str, str]


class RateLimiter:
    """Counts requests against the limit, client by client.

    A client is identified by its API key if that is valid, else by its IP address.
    """

    def __init__(self, limit: str, redis: Redis, keys: ApiKeys) -> None:
        self.limit: RateLimitItem = parse(limit)
        self.keys = keys
        storage = RedisStorage(
            "async+redis://",  # unused: the pool has the address
            implementation="redispy",
            key_prefix="vitrine:rate",
            connection_pool=redis.connection_pool,  # type: ignore[arg-type] # passed on
        )
        self.limiter = MovingWindowRateLimiter(storage)
        self._away_until = 0.0

    async def hit(self, scope: Scope) -> LimitStatus | None:
        """Count a request; None if Redis does not answer: the request passes without a limit."""
        client = _client(scope, self.keys)
        if time.monotonic() < self._away_until:
            return None
        try:
            allowed = await self.limiter.hit(self.limit, client)
            stats = await self.limiter.get_window_stats(self.limit, client)
        except RedisError as error:
            self._away_until = time.monotonic() + REDIS_RETRY_S
            logger.warning("no rate limit applies while Redis is away (%s)", type(error).__name__)
            return None
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(self.limit.amount),
            "RateLimit-Remaining": str(max(0, stats.remaining)),
            "RateLimit-Reset": str(wait_s),
        }
        return LimitStatus(allowed, headers)


class RateLimits:
    """ASGI middleware: 429 over the limit, and `RateLimit` headers on every answer."""

    def __init__(self, app: ASGIApp, *, limiter: RateLimiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UNLIMITED.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        status = await self.limiter.hit(scope)
        if status is None:
            await self.app(scope, receive, send)
            return
        send_with_headers = _with_headers(send, status.headers)
        if status.allowed:
            await self.app(scope, receive, send_with_headers)
            return
        answer = Answer(429, "rate_limited", f"At most {self.limiter.limit} for each client.")
        response = problem_response(Request(scope), answer)
        response.headers["Retry-After"] = status.headers["RateLimit-Reset"]
        await response(scope, receive, send_with_headers)


def _client(scope: Scope, keys: ApiKeys) -> str:
    """The client as a Redis key, which contains the API key's digest, never the key itself."""
    key = sent_key(text_of(first_headers(scope), b"authorization"))
    if key is not None and find_key(keys, key) is not None:
        return f"key:{digest_of(key)}"
    address = scope["client"][0] if scope["client"] else "local"
    return f"address:{address}"


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
