"""Request ids: `X-Request-Id` on every answer, the client's if well-formed, else a new one."""

import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.headers import RawHeaders, first_headers, text_of
from worker import logs

SANE = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


class RequestId:
    """ASGI middleware: stores the id in `scope["state"]["request_id"]` and for log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = id_of(first_headers(scope))
        scope.setdefault("state", {})["request_id"] = request_id
        # Never reset: the server logs unhandled errors outside all middleware, with this id.
        logs.request_id.set(request_id)

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self.app(scope, receive, with_id)


def id_of(headers: RawHeaders) -> str:
    """The client's id if it is well-formed, else a new one."""
    sent = text_of(headers, b"x-request-id")
    return sent if SANE.fullmatch(sent) else f"req_{secrets.token_hex(8)}"
