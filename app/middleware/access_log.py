"""Access log and request metrics: route, status, duration and size of every answer."""

import logging
import time
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

logger = logging.getLogger("app.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestSummary(NamedTuple):
    """What is recorded of a request and its answer."""

    method: str
    route: str
    status: int
    started: float  # by `time.perf_counter`
    size_bytes: int  # of the answer's body


class AccessLog:
    """ASGI middleware: records every answer in the metrics and in the access log."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # of an unhandled error, which is answered outside all middleware
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
            summary = RequestSummary(method_of(scope), route_of(scope), status, started, size_bytes)
            record_request(self.metrics, summary)


def record_request(metrics: Metrics, summary: RequestSummary) -> None:
    """Record an answer that is complete now, in the metrics and in one line of the log.

    The line holds nothing that the client has sent: no path, query, header or body.
    """
    duration_s = time.perf_counter() - summary.started
    metrics.answered(summary.method, summary.route, summary.status, duration_s)
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": summary.method,
        "route": summary.route,
        "status": summary.status,
        "duration_ms": round(1000 * duration_s, 2),
        "bytes": summary.size_bytes,
    }
    logger.info("%s %s %s %s ms %s bytes", *fields.values(), extra=fields)


def method_of(scope: Scope) -> str:
    """The request's method; `other` for unknown ones, as a client may send any word."""
    return scope["method"] if scope["method"] in METHODS else "other"


def route_of(scope: Scope) -> str:
    """Path template of the matched route, `none` without one; never text from the client."""
    route: Any = scope.get("route")
    if route is not None:
        return str(route.path_format)
    if "endpoint" in scope:  # a mounted application, or a route without parameters
        return str(scope["root_path"] or scope["path"])
    return "none"
