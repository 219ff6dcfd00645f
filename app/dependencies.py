"""FastAPI dependencies: services, API key scopes, content negotiation, idempotency keys."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Annotated

from anyio import from_thread
from fastapi import Depends, Header, Query, Request, params
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.auth import Scope, ScopeRule, authorize
from app.errors import Problem
from app.generation.async_generation import IdFor, submit_generation
from app.generation.idempotent_generation import (
    FirstAnswers,
    MakeImages,
    SynchronousGeneration,
)
from app.generation.image_links import publish_images
from app.generation.negotiation import preferred
from app.schemas import JobView
from app.services import Services
from worker.datasets.import_slot import Abandoned
from worker.ledger.idempotency import name_of, reserve
from worker.registry.model_versions import ModelCard
from worker.schemas.requests import GenerateJob

SubmitGeneration = Callable[[GenerateJob, ModelCard], JobView]

bearer = HTTPBearer(auto_error=False, description="An API key.")


async def services(request: Request) -> Services:
    """The services of this process."""
    opened: Services = request.app.state.services
    return opened


ServicesDep = Annotated[Services, Depends(services)]


class ScopeCheck(ScopeRule):
    """A dependency that lets only keys with one of its scopes through.

    It documents the rule in OpenAPI, and checks it again where `KeyCheck` has not seen the route.
    """

    async def __call__(
        self,
        request: Request,
        services: ServicesDep,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> None:
        """Keep the key's scopes for the route, or raise Problem."""
        sent = credentials.credentials if credentials else None
        key = authorize(services.api_keys, sent, *self.allowed)
        if key is not None:
            request.state.scopes = key.scopes


def require(*allowed: Scope) -> ScopeCheck:
    """A dependency that lets only keys with one of these scopes through."""
    return ScopeCheck(allowed)


def accepts(*media_types: str) -> params.Depends:
    """A dependency that answers 406 when the client takes none of `media_types`."""

    async def check(accept: Annotated[str, Header(include_in_schema=False)] = "*/*") -> None:
        if preferred(accept, media_types) is None:
            raise Problem(406, "not_acceptable", f"This answers {', '.join(media_types)}.")

    return params.Depends(check)


async def idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="Any text of your own, for this request alone. Sent again with it within a"
            " day, the request gets its first answer and makes nothing new.",
        ),
    ] = None,
) -> str | None:
    """The name under which the request's `Idempotency-Key` is stored; None without one."""
    client = hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()
    return None if key is None else name_of(f"{client} {request.url.path}", key)


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


async def idempotent_id(services: ServicesDep, key: IdempotencyKey) -> IdFor:
    """A function that reserves an id for the `Idempotency-Key`; it returns None without one."""

    def id_for(prefix: str, asked: Callable[[], bytes]) -> str | None:
        return None if key is None else reserve(services.storage, prefix, key, asked())

    return id_for


IdempotentIdDep = Annotated[IdFor, Depends(idempotent_id)]


async def abandoned(request: Request) -> Abandoned:
    """Whether the client has disconnected, to be asked in a route's thread."""
    return lambda: from_thread.run(request.is_disconnected)


AbandonedDep = Annotated[Abandoned, Depends(abandoned)]


async def make_images(request: Request, services: ServicesDep, key: IdempotencyKey) -> MakeImages:
    """Generates the images of a request until its client disconnects; once for each key."""
    base = services.settings.public_url or str(request.base_url)
    generation = SynchronousGeneration(
        receive=request.receive,
        resolver=services.resolver,
        sampler=services.sampler,
        classifiers=services.classifiers,
        publish=partial(publish_images, services.image_links, base),
    )
    if key is None:
        return generation.make
    leases = services.queue.leases
    answers = FirstAnswers(storage=services.storage, leases=leases, name=key)
    return partial(answers.make_once, generation)


async def submit(services: ServicesDep, id_for: IdempotentIdDep) -> SubmitGeneration:
    """Queues a generate job."""
    return partial(submit_generation, services.queue, services.registry, id_for)


MakeImagesDep = Annotated[MakeImages, Depends(make_images)]
SubmitGenerationDep = Annotated[SubmitGeneration, Depends(submit)]

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
JSON = accepts("application/json")
PNG = accepts("image/png")
EVENTS = accepts("text/event-stream", "application/json")
