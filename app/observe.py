"""Each request as it is seen from outside: its route, its answer, and how long that took."""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observe:
    """ASGI middleware: tells the metrics of every answer."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # of a fault, which is answered outside all middleware
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            duration_s = time.perf_counter() - started
            self.metrics.answered(method_of(scope), route_of(scope), status, duration_s)


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
