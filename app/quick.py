"""The short way to images: past FastAPI, which takes longer for a request than a small image does.

A plain request is answered here. One that is not plain, or wrong, takes the usual way, so that its
checks and its documentation are in one place.
"""

from functools import partial

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from app.answers import answer, form_of
from app.auth import find_key, sent_key
from app.body import replay
from app.errors import ANSWERS, Problem, domain_error, http_error
from app.generation import generate_images
from app.headers import RawHeaders, text_of
from app.schemas import GenerateRequest

PATH = "/generate"
SCOPE = "generate"  # that a key needs
UNUSUAL = (b"prefer", b"idempotency-key")  # headers


class Quick:
    """ASGI middleware, the innermost: answers plain `POST /generate`, passes all else on."""

    def __init__(self, app: ASGIApp, *, state: State) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        body = (await receive())["body"]  # whole: `BodyLimits` has read it
        response = await self._answer(scope, body, receive)
        if response is None:
            await self.app(scope, replay(body, receive), send)
            return
        scope["endpoint"] = self  # as FastAPI notes down which route it was
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive) -> Response | None:
        """The answer; None where the usual way is to find it."""
        headers: RawHeaders = dict(scope["headers"])
        if len(headers) < len(scope["headers"]) or not self._may(headers):
            return None
        request = _plain(headers, body)
        if request is None:
            return None
        accept = text_of(headers, b"accept", "*/*")
        make = partial(generate_images, receive, self.state.sampler)
        try:
            card = await self.state.resolver.find(request.model)
            return await answer(request, card, form_of(accept, request, later=False), make)
        except Problem as problem:
            return await http_error(Request(scope), problem)
        except tuple(ANSWERS) as error:
            return await domain_error(Request(scope), error)

    def _may(self, headers: RawHeaders) -> bool:
        """Whether the client needs no key, or has sent one of this scope."""
        if not self.state.api_keys:
            return True
        sent = sent_key(text_of(headers, b"authorization"))
        key = None if sent is None else find_key(self.state.api_keys, sent)
        return key is not None and SCOPE in key.scopes


def _plain(headers: RawHeaders, body: bytes) -> GenerateRequest | None:
    """What a client wants, where nothing about it is unusual."""
    if any(name in headers for name in UNUSUAL):
        return None
    try:
        request = GenerateRequest.model_validate_json(body)
    except ValidationError:
        return None
    return request if request.response_format == "b64_json" else None
