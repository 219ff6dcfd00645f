"""Request headers: raw look-ups for code that runs on every request, and repeated list headers.

Starlette's `Headers` decodes and compares all headers at each lookup.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

RawHeader = tuple[bytes, bytes]  # the name in lower case
RawHeaders = dict[bytes, bytes]  # by lower-case name

LISTS = frozenset({b"accept", b"prefer", b"content-encoding"})  # of what the service reads


class ListHeaders:
    """ASGI middleware: joins repeated list headers, of which FastAPI reads only the first."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = _with_joined_lists(scope["headers"])
        await self.app(scope, receive, send)


def first_headers(scope: Scope) -> RawHeaders:
    """The first header of each name, as `Headers.get` returns it, and the whole of a list."""
    return dict(reversed(_with_joined_lists(scope["headers"])))


def text_of(headers: RawHeaders, name: bytes, absent: str = "") -> str:
    """One header decoded as Latin-1, HTTP's encoding; `absent` without it."""
    value = headers.get(name)
    return absent if value is None else value.decode("latin-1")


def _with_joined_lists(headers: list[RawHeader]) -> list[RawHeader]:
    """The headers, where each list is one header (RFC 9110, section 5.3)."""
    lists = [name for name, _ in headers if name in LISTS]
    if len(lists) == len(set(lists)):
        return headers
    whole = [
        (name, b", ".join(value for other, value in headers if other == name))
        for name in dict.fromkeys(lists)
    ]
    return [*(pair for pair in headers if pair[0] not in LISTS), *whole]
