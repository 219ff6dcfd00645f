"""Raw request headers by name, for code that runs on every request.

Starlette's `Headers` decodes and compares all headers at each lookup.
"""

from starlette.types import Scope

RawHeaders = dict[bytes, bytes]  # by lower-case name


def first_headers(scope: Scope) -> RawHeaders:
    """The first header of each name, as `Headers.get` returns it."""
    return dict(reversed(scope["headers"]))


def text_of(headers: RawHeaders, name: bytes, absent: str = "") -> str:
    """One header decoded as Latin-1, HTTP's encoding; `absent` without it."""
    value = headers.get(name)
    return absent if value is None else value.decode("latin-1")
