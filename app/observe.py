"""Each request as it is seen from outside: its route, its answer, and how long that took."""

import logging
import time
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

logger = logging.getLogger("app.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Seen(NamedTuple):
    """A request and its answer."""

    method: str
    route: str
    status: int
    started: float  # by `time.perf_counter`
    size_bytes: int  # of the answer's body


class Observe:
    """ASGI middleware: tells the metrics of every answer, and writes the access log."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # of a fault, which is answered outside all middleware
        size_bytes = 0
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status, size_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            size_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seen = Seen(method_of(scope), route_of(scope), status, started, size_bytes)
            tell(self.metrics, seen)


def tell(metrics: Metrics, seen: Seen) -> None:
    """Of an answer that ends now: to the metrics, and in one line of the log.

    The line holds nothing that the client has sent: no path, query, header or body.
    """
    duration_s = time.perf_counter() - seen.started
    metrics.answered(seen.method, seen.route, seen.status, duration_s)
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": seen.method,
        "route": seen.route,
        "status": seen.status,
        "duration_ms": round(1000 * duration_s, 2),
        "bytes": seen.size_bytes,
    }
    logger.info("%s %s %s %s ms %s bytes", *fields.values(), extra=fields)


def method_of(scope: Scope) -> str:
    """The request's method; a client may send any word."""
    return scope["method"] if scope["method"] in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The template of the route that took the request: never what a client has made up."""
    route: Any = scope.get("route")
    if route is not None:
        return str(route.path_format)
    if "endpoint" in scope:  # a mounted application, or a route without parameters
        return str(scope["root_path"] or scope["path"])
    return "none"
