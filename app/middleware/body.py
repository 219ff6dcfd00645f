"""Request body limits: size, rate, media type and strict JSON, checked before any route runs.

JSON must not contain duplicate keys, NaN, deep nesting, lone surrogates or NUL characters, which
Python's parser accepts but other systems interpret differently. Bodies are bounded while they
arrive.
"""

import asyncio
import json
import re
import time
from typing import Any, NoReturn

import anyio.to_thread
from fastapi.routing import RouteContext
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.allowed_methods import answering
from app.errors import Answer, Problem, problem_response
from app.middleware.headers import RawHeaders, first_headers, text_of

MAX_NESTING = 32
MAX_VALUES = 4000  # of a JSON body; a millisecond of checks and error messages for 100 of them
MAX_DIGITS = 400  # of an integer; a double has 309 at most
THREAD_BYTES = 64 * 1024  # a larger JSON body is checked in a thread
SILENCE_S = 20.0  # in which a body ends, or grows by `LEAST_BYTES`
LEAST_BYTES = 2000
UNUSABLE = re.compile("[\0\ud800-\udfff]")
FORM_BYTES = 64 * 1024  # of a form beside its file


class BodyLimits:
    """ASGI middleware: bounds every body and refuses malformed or ambiguous JSON.

    A body that no route takes is not read: the request is answered by 404 or 405.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: tuple[RouteContext, ...],
        max_json_bytes: int,
        max_upload_bytes: int,
        max_image_bytes: int,
    ) -> None:
        self.app = app
        self.routes = routes
        self.max_json_bytes = max_json_bytes
        # By the paths that take multipart/form-data; all others take JSON.
        self.max_form_bytes = {
            "/datasets": max_upload_bytes,
            "/classify": max_image_bytes + FORM_BYTES,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._takes_body(scope):
            await self.app(scope, receive, send)
            return
        headers = first_headers(scope)
        upload = scope["path"] in self.max_form_bytes
        limit = self.max_form_bytes.get(scope["path"], self.max_json_bytes)
        bounded = _bounded(receive, limit)
        try:
            check_headers(headers, limit, upload=upload)
            if not upload:
                body = await _read(bounded)
                if body:
                    await _check(body, text_of(headers, b"content-type"))
                bounded = replay(body, receive)
        except Problem as problem:
            answer = Answer(problem.status_code, problem.code, problem.detail)
            await problem_response(Request(scope), answer)(scope, receive, send)
            return
        await self.app(scope, bounded, send)

    def _takes_body(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return False
        return answering(self.routes, scope) is not None


def check_headers(headers: RawHeaders, limit: int, *, upload: bool) -> None:
    """Check what the headers show before the body is read; raises Problem."""
    if b"content-length" in headers and b"transfer-encoding" in headers:
        # Request smuggling: a proxy and this server may each believe a different header.
        raise Problem(400, "bad_request", "Send Content-Length or Transfer-Encoding, not both.")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(415, "unsupported_encoding", "Send the body uncompressed.")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    multipart = "multipart/form-data"
    if upload and _media_type(text_of(headers, b"content-type", multipart)) != multipart:
        raise Problem(415, "unsupported_media_type", "Send multipart/form-data.")


def check_json(body: bytes, content_type: str) -> None:
    """Check a JSON body; raises Problem: 415 media type, 400 malformed, 422 unusable values."""
    if _media_type(content_type) != "application/json":
        raise Problem(415, "unsupported_media_type", "Send application/json.")
    if not _has_few_values(body):
        raise _too_many()
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Problem(400, "malformed_json", "The body is not valid UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Problem(
            400, "malformed_json", f"Not JSON at line {error.lineno}, column {error.colno}."
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    if _check_value(value, depth=1) > MAX_VALUES:
        raise _too_many()


def _media_type(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Problem(400, "malformed_json", "An object has the same key twice.")
    return result


def _constant(name: str) -> NoReturn:
    raise Problem(422, "invalid_request", f"{name} is not a JSON number.")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Problem(422, "invalid_request", f"A number has more than {MAX_DIGITS} digits.")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)


def _has_few_values(body: bytes) -> bool:
    """Whether JSON that is not parsed yet may have at most `MAX_VALUES` values; it has not twice.

    Without a comma before it is the first value of a list, an object or the document alone. Each
    text is a value, or the key of one.
    """
    quoted = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if quoted.count(b'"') > 4 * MAX_VALUES:
        return False
    outside = b"".join(quoted.split(b'"')[::2])
    containers = outside.count(b"[") + outside.count(b"{")
    return containers <= MAX_VALUES and outside.count(b",") < MAX_VALUES


def _check_value(value: Any, depth: int) -> int:
    """Check a value and what is inside; returns the number of values."""
    if depth > MAX_NESTING and isinstance(value, list | dict):
        raise _too_deep()
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise Problem(422, "invalid_request", "A number is too large.")
    elif isinstance(value, list):
        return 1 + sum(_check_value(item, depth + 1) for item in value)
    elif isinstance(value, dict):
        for key in value:
            _check_text(key)
        return 1 + sum(_check_value(item, depth + 1) for item in value.values())
    return 1


def _check_text(text: str) -> None:
    if UNUSABLE.search(text):
        raise Problem(
            422, "invalid_request", "Text must not hold NUL characters or lone surrogates."
        )


def _too_deep() -> Problem:
    return Problem(400, "malformed_json", f"JSON is nested deeper than {MAX_NESTING} levels.")


def _too_many() -> Problem:
    return Problem(400, "malformed_json", f"JSON may have at most {MAX_VALUES} values.")


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "The body came too slowly; send it again.")


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The body may have at most {limit} bytes.")


def _bounded(receive: Receive, limit: int) -> Receive:
    """A `receive` that raises Problem where a body is too large or too slow."""
    received, goal, left_s, is_whole = 0, LEAST_BYTES, SILENCE_S, False

    async def bounded() -> Message:
        nonlocal received, goal, left_s, is_whole
        if is_whole:
            return await receive()  # waits for the disconnect
        began = time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        left_s -= time.monotonic() - began
        is_whole = not message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        if received >= goal:
            goal, left_s = received + LEAST_BYTES, SILENCE_S
        return message

    return bounded


async def _check(body: bytes, content_type: str) -> None:
    """`check_json`, in a thread where it takes long."""
    if len(body) > THREAD_BYTES:
        await anyio.to_thread.run_sync(check_json, body, content_type)
    else:
        check_json(body, content_type)


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The part received may be valid JSON by chance. The client no longer reads the answer.
            raise Problem(400, "bad_request", "The body broke off.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that delivers a body again that has been read."""
    replayed = False

    async def again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()  # waits for the disconnect
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
