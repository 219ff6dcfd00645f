"""How often a client may ask: a moving window, kept in Redis for all API processes together.

Whatever moment a window of the limit's length begins at, it holds no more requests than allowed; a
fixed one would let twice as many through around its end. It costs Redis a list entry for each
request within the window, which the limit bounds. All API machines need the same time.
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
from app.headers import first_headers, text_of

logger = logging.getLogger(__name__)

UNLIMITED = re.compile(r"/metrics|/docs|/openapi\.json|/health/.*|/static/.*")
PATIENCE_S = 0.25  # with Redis, for each of two questions
ASKED = "rate_limit"  # in a request's state, what the limiter has said
ASK_AGAIN_S = 5.0  # a Redis that is away; meanwhile nobody waits for it


def connect(url: str) -> Redis:
    """A client that gives up at once."""
    return Redis.from_url(
        url,
        socket_connect_timeout=PATIENCE_S,
        socket_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


class Asked(NamedTuple):
    """Whether a request may pass, and what its answer tells of the limit."""

    allowed: bool
    headers: dict[str, str]


class Limiter:
    """The limit, and who has used how much of it.

    Who sends a valid key is limited by it, all others by their address.
    """

    def __init__(self, limit: str, redis: Redis, keys: ApiKeys) -> None:
        self.limit: RateLimitItem = parse(limit)
        self.keys = keys
        storage = RedisStorage(
            "async+redis://",  # the pool knows better
            implementation="redispy",
            key_prefix="vitrine:rate",
            connection_pool=redis.connection_pool,  # type: ignore[arg-type] # passed on
        )
        self.limiter = MovingWindowRateLimiter(storage)
        self._away_until = 0.0

    async def ask(self, scope: Scope) -> Asked | None:
        """For one request; None where Redis does not say, and nobody is limited.

        It is counted once, however often this is asked: the usual way does, behind a quick answer
        that came to nothing.
        """
        state = scope.setdefault("state", {})
        if ASKED not in state:
            state[ASKED] = await self._ask(_client(scope, self.keys))
        asked: Asked | None = state[ASKED]
        return asked

    async def _ask(self, client: str) -> Asked | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            allowed = await self.limiter.hit(self.limit, client)
            stats = await self.limiter.get_window_stats(self.limit, client)
        except RedisError as error:
            self._away_until = time.monotonic() + ASK_AGAIN_S
            logger.warning("nobody's rate is limited: Redis is away (%s)", type(error).__name__)
            return None
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        headers = {
            "RateLimit-Limit": str(self.limit.amount),
            "RateLimit-Remaining": str(max(0, stats.remaining)),
            "RateLimit-Reset": str(wait_s),
        }
        return Asked(allowed, headers)


class RateLimits:
    """ASGI middleware: 429 over the limit, and on every answer how much of it is left."""

    def __init__(self, app: ASGIApp, *, limiter: Limiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UNLIMITED.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        asked = await self.limiter.ask(scope)
        if asked is None:
            await self.app(scope, receive, send)
            return
        told = _telling(send, asked.headers)
        if asked.allowed:
            await self.app(scope, receive, told)
            return
        answer = Answer(429, "rate_limited", f"At most {self.limiter.limit} for each client.")
        response = problem_response(Request(scope), answer)
        response.headers["Retry-After"] = asked.headers["RateLimit-Reset"]
        await response(scope, receive, told)


def _client(scope: Scope, keys: ApiKeys) -> str:
    """Who asks, as a key in Redis: no API key is written there."""
    key = sent_key(text_of(first_headers(scope), b"authorization"))
    if key is not None and find_key(keys, key) is not None:
        return f"key:{digest_of(key)}"
    address = scope["client"][0] if scope["client"] else "local"
    return f"address:{address}"


def _telling(send: Send, headers: dict[str, str]) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return told
