"""How often a client may ask: a moving window, kept in Redis for all API processes together.

Whatever moment a window of the limit's length begins at, it holds no more requests than allowed; a
fixed one would let twice as many through around its end. It costs Redis a list entry for each
request within the window, which the limit bounds. All API machines need the same time.
"""

import logging
import math
import re
import time

from limits import RateLimitItem, WindowStats, parse
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
ASK_AGAIN_S = 5.0  # a Redis that is away; meanwhile nobody waits for it


def connect(url: str) -> Redis:
    """A client that gives up at once."""
    return Redis.from_url(
        url,
        socket_connect_timeout=PATIENCE_S,
        socket_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


class RateLimits:
    """ASGI middleware: 429 over the limit, and on every answer how much of it is left.

    Who sends a valid key is limited by it, all others by their address. Without Redis nobody is.
    """

    def __init__(self, app: ASGIApp, *, limit: str, redis: Redis, keys: ApiKeys) -> None:
        self.app = app
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UNLIMITED.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        asked = await self._ask(_client(scope, self.keys))
        if asked is None:
            await self.app(scope, receive, send)
            return
        allowed, stats = asked
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        told = _telling(send, self.limit.amount, stats.remaining, wait_s)
        if allowed:
            await self.app(scope, receive, told)
            return
        answer = Answer(429, "rate_limited", f"At most {self.limit} for each client.")
        response = problem_response(Request(scope), answer)
        response.headers["Retry-After"] = str(wait_s)
        await response(scope, receive, told)

    async def _ask(self, client: str) -> tuple[bool, WindowStats] | None:
        """Whether a request may pass, and what is left; None where Redis does not say."""
        if time.monotonic() < self._away_until:
            return None
        try:
            allowed = await self.limiter.hit(self.limit, client)
            return allowed, await self.limiter.get_window_stats(self.limit, client)
        except RedisError as error:
            self._away_until = time.monotonic() + ASK_AGAIN_S
            logger.warning("nobody's rate is limited: Redis is away (%s)", type(error).__name__)
            return None


def _client(scope: Scope, keys: ApiKeys) -> str:
    """Who asks, as a key in Redis: no API key is written there."""
    key = sent_key(text_of(first_headers(scope), b"authorization"))
    if key is not None and find_key(keys, key) is not None:
        return f"key:{digest_of(key)}"
    address = scope["client"][0] if scope["client"] else "local"
    return f"address:{address}"


def _telling(send: Send, amount: int, remaining: int, reset_s: int) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["RateLimit-Limit"] = str(amount)
            headers["RateLimit-Remaining"] = str(max(0, remaining))
            headers["RateLimit-Reset"] = str(reset_s)
        await send(message)

    return told
