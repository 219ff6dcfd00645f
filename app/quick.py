"""The short way to images: past FastAPI's dependencies, which take longer than a small image does.

A plain request is answered here. Whatever is not plain, and all that is wrong, takes the usual way,
so that every error and every document is FastAPI's.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.datastructures import State

from app.answers import answer, form_of
from app.auth import authorize
from app.generation import generate_images
from app.published import publisher
from app.schemas import GenerateRequest
from worker.links import Links

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
UNUSUAL = ("prefer", "idempotency-key")  # headers


class QuickRoute(APIRoute):
    """POST /generate."""

    def get_route_handler(self) -> Handler:
        """The short way, before the usual one."""
        usual = super().get_route_handler()

        async def handle(client: Request) -> Response:
            request = await _plain(client)
            return await (usual(client) if request is None else _answered(client, request))

        return handle


async def _plain(client: Request) -> GenerateRequest | None:
    """What a client wants, where nothing about it is unusual."""
    if any(name in client.headers for name in UNUSUAL):
        return None
    try:
        return GenerateRequest.model_validate_json(await client.body())
    except ValidationError:
        return None


async def _answered(client: Request, request: GenerateRequest) -> Response:
    state: State = client.app.state
    scheme, _, key = client.headers.get("authorization", "").partition(" ")
    authorize(client, key if scheme.lower() == "bearer" else None, "generate")
    card = await state.resolver.find(request.model)
    form = form_of(client.headers.get("accept", "*/*"), request, later=False)
    make = partial(generate_images, client, state.sampler)
    links = Links(state.storage, state.settings.link_ttl_s)
    return await answer(request, card, form, make, publisher(client, state.settings, links))
