"""Each request as it is seen from outside: its route, its answer, and how long that took."""

import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

logger = logging.getLogger("app.access")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
            duration_s = time.perf_counter() - started
            method, route = method_of(scope), route_of(scope)
            self.metrics.answered(method, route, status, duration_s)
            _log(method, route, status, duration_s, size_bytes)


def _log(method: str, route: str, status: int, duration_s: float, size_bytes: int) -> None:
    """One line, which holds nothing that the client has sent: no path, query, header or body."""
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(1000 * duration_s, 2),
        "bytes": size_bytes,
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
