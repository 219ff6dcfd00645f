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

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Answer, Problem, problem_response
from app.middleware.headers import RawHeaders, first_headers, text_of

MAX_NESTING = 32
SILENCE_S = 20.0  # between two pieces of a body
LEAST_RATE = 100  # bytes a second, of a body that takes longer than `SILENCE_S` in all
UNUSABLE = re.compile("[\0\ud800-\udfff]")
UPLOADS = frozenset({"/datasets"})  # paths that take multipart/form-data; all others take JSON


class BodyLimits:
    """ASGI middleware: bounds every body and refuses malformed or ambiguous JSON."""

    def __init__(self, app: ASGIApp, *, max_json_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_json_bytes = max_json_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self.app(scope, receive, send)
            return
        headers = first_headers(scope)
        upload = scope["path"] in UPLOADS
        limit = self.max_upload_bytes if upload else self.max_json_bytes
        bounded = _bounded(receive, limit)
        try:
            check_headers(headers, limit, upload=upload)
            if not upload:
                body = await _read(bounded)
                if body:
                    check_json(body, text_of(headers, b"content-type"))
                bounded = replay(body, receive)
        except Problem as problem:
            answer = Answer(problem.status_code, problem.code, problem.detail)
            response = problem_response(Request(scope), answer)
            # The rest of the body is not read, so the connection closes after this answer.
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self.app(scope, bounded, send)


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
    except ValueError as error:  # an integer of thousands of digits
        raise Problem(422, "invalid_request", "A number has too many digits.") from error
    _check_value(value, depth=1)


def _media_type(content_type: str) -> str:
    return content_type.split(";")[0].strip().lower()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Problem(400, "malformed_json", "An object has the same key twice.")
    return result


def _constant(name: str) -> NoReturn:
    raise Problem(422, "invalid_request", f"{name} is not a JSON number.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_NESTING and isinstance(value, list | dict):
        raise _too_deep()
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise Problem(422, "invalid_request", "A number is too large.")
    elif isinstance(value, list):
        for item in value:
            _check_value(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_value(item, depth + 1)


def _check_text(text: str) -> None:
    if UNUSABLE.search(text):
        raise Problem(
            422, "invalid_request", "Text must not hold NUL characters or lone surrogates."
        )


def _too_deep() -> Problem:
    return Problem(400, "malformed_json", f"JSON is nested deeper than {MAX_NESTING} levels.")


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "The body came too slowly; send it again.")


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The body may have at most {limit} bytes.")


def _bounded(receive: Receive, limit: int) -> Receive:
    received = 0
    began = time.monotonic()

    async def bounded() -> Message:
        nonlocal received
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        took = time.monotonic() - began
        if took > SILENCE_S and received / took < LEAST_RATE:
            raise _too_slow()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return bounded


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
