"""HEAD: every GET route answers it, with the headers of its GET alone (RFC 9110, section 9.3.2)."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware: turns HEAD into GET, and ends the answer where its body would begin."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        with anyio.CancelScope() as answer:

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body"})
                    answer.cancel()  # also of an answer without an end, as a stream of events

            try:
                await self.app(as_get, receive, send_head)
            finally:
                scope.update(as_get, method="HEAD")  # the access log reads the route from it
