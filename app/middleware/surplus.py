"""Surplus connections: beyond the limit, only health checks are answered."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Answer, problem_response
from app.middleware.hosts import PROBES

SURPLUS = "surplus"  # key in a request's state: its connection is beyond the server's limit
ANSWER = Answer(503, "too_many_connections", "Too many connections are open; try again later.")


class SurplusCheck:
    """ASGI middleware: 503 for a request on a surplus connection, but not for a health check."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_surplus = scope["type"] == "http" and SURPLUS in scope.get("state", {})
        if is_surplus and not scope["path"].startswith(PROBES):
            await problem_response(Request(scope), ANSWER)(scope, receive, send)
            return
        await self.app(scope, receive, send)
