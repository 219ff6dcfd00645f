"""Unread bodies: a connection closes after an answer that comes before the body's end."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.headers import first_headers


class CloseUnread:
    """ASGI middleware: `Connection: close` on answers to a request whose body is not read.

    Otherwise the server would receive the rest of the body, of whatever size, only to drop it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        is_read = False

        async def watched() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_read:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, watched, send_and_close)


def _has_body(scope: Scope) -> bool:
    headers = first_headers(scope)
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
