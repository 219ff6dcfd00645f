"""A request's headers as they came, for what looks at every request.

Starlette's `Headers` decodes and compares all of them for each question that it is asked.
"""

from starlette.types import Scope

RawHeaders = dict[bytes, bytes]  # by lower-case name


def first_headers(scope: Scope) -> RawHeaders:
    """Of each name the first header, as `Headers.get` finds it."""
    return dict(reversed(scope["headers"]))


def text_of(headers: RawHeaders, name: bytes, absent: str = "") -> str:
    """One header, decoded as HTTP has it."""
    value = headers.get(name)
    return absent if value is None else value.decode("latin-1")
