"""The FastAPI application: its routers, middleware and background tasks."""

import gc
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

import anyio
import anyio.to_thread
from fastapi import FastAPI

from app import docs, error_handlers
from app.allowed_methods import routes_of
from app.background.ledger_loops import maintain_ledger, reconcile
from app.background.leftovers import sweep
from app.background.loops import Loop
from app.generation.engine_cache import forget_deleted
from app.middleware.access_log import AccessLog
from app.middleware.body import BodyLimits
from app.middleware.head import HeadAsGet
from app.middleware.headers import ListHeaders
from app.middleware.hosts import HostCheck
from app.middleware.key_check import KeyCheck
from app.middleware.query import KnownQuery
from app.middleware.rate_limits import RateLimits
from app.middleware.request_id import RequestId
from app.middleware.surplus import SurplusCheck
from app.middleware.unread_body import CloseUnread
from app.routers import (
    classify,
    datasets,
    generate,
    health,
    images,
    job_submission,
    jobs,
    metrics,
    models,
    openai,
    uploads,
    webhooks,
)
from app.server.connection import FAST_PATH
from app.server.connection_limit import CONNECTION_LIMIT
from app.server.fast_path import FastPath
from app.server.header_timeout import SHUTDOWN
from app.server.open_files import most_connections
from app.services import Services, open_services
from models.checkpoint import CheckpointError
from worker.registry.registry import ModelNotFound, WeightsDamaged
from worker.settings import Settings
from worker.storage import StorageError

logger = logging.getLogger(__name__)

FEW_CONNECTIONS = 500  # a lower limit is worth a warning
GC_THRESHOLD = 20_000  # young objects before a garbage collection: those of many requests
ROUTERS = (
    *(generate, classify, openai, images, models, datasets, uploads),
    *(job_submission, jobs, webhooks, health, metrics),
)
DESCRIPTION = """\
Learns a shop's own product photos and generates new product images from them.

Upload a zip (`POST /datasets`), train (`POST /jobs/train`), watch (`GET /jobs/{id}`), generate
(`POST /generate`). Errors are `application/problem+json`. Unknown fields of a body and unknown
query parameters are refused (422).
"""


def create_app(settings: Settings) -> FastAPI:
    """The API over the Redis and the object store that `settings` name."""
    app = FastAPI(
        title="Vitrine",
        version=version("vitrine"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # `app.docs` serves the document
        webhooks=webhooks.outgoing,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.services = services = open_services(settings)
    for part in ROUTERS:
        app.include_router(part.router)
    error_handlers.install(app)
    docs.install(app)
    _add_middleware(app, services)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    """Add the middleware, from the innermost to the outermost."""
    routes = routes_of(app)
    app.add_middleware(
        BodyLimits,
        routes=routes,
        max_json_bytes=services.settings.max_body_bytes,
        max_upload_bytes=services.settings.max_upload_bytes,
        max_image_bytes=services.settings.max_image_bytes,
    )
    app.add_middleware(KnownQuery, routes=routes)
    app.add_middleware(KeyCheck, routes=routes, keys=services.api_keys)
    if services.rate_limiter is not None:
        app.add_middleware(RateLimits, limiter=services.rate_limiter)
    app.add_middleware(HostCheck, rules=services.host_rules)
    app.add_middleware(SurplusCheck)
    app.add_middleware(HeadAsGet)
    app.add_middleware(CloseUnread)
    app.add_middleware(ListHeaders)
    app.add_middleware(AccessLog, metrics=services.metrics)
    app.add_middleware(RequestId)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    services: Services = app.state.services
    await anyio.to_thread.run_sync(_warm_up, services)
    # What is loaded by now stays. A garbage collection that scans it would pause all requests for
    # a third of a second, once in a few thousand requests.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    stopping = threading.Event()
    async with anyio.create_task_group() as tasks:
        loops: dict[str, Loop] = {
            "reconciler": partial(reconcile, services.queue),
            "maintenance": partial(maintain_ledger, services.queue, stopping),
            "webhooks": services.webhooks.run,
            "leftovers": partial(sweep, services.queue),
            "engines": partial(forget_deleted, services.sampler.engines),
        }
        for name, loop in loops.items():
            tasks.start_soon(services.loops.keep, name, loop)
        # Rate limits are checked asynchronously, in middleware that the fast path bypasses.
        fast_path = FastPath(services) if services.rate_limiter is None else None
        yield {
            FAST_PATH: fast_path,
            SHUTDOWN: services.event_streams.shutdown,
            CONNECTION_LIMIT: _connection_limit(),
        }
        stopping.set()
        services.importer.close()
        services.photo_importer.close()
        await anyio.to_thread.run_sync(services.sampler.batcher.close)
        tasks.cancel_scope.cancel()
    gc.unfreeze()
    await services.close()


def _connection_limit() -> int:
    limit = most_connections()
    if limit < FEW_CONNECTIONS:
        logger.warning("at most %d connections: raise the limit on open files (ulimit -n)", limit)
    return limit


def _warm_up(services: Services) -> None:
    """Load the default model, so that the first request need not wait for it."""
    try:
        services.sampler.engines.open(services.resolver.resolve(None))
    except (ModelNotFound, WeightsDamaged, CheckpointError, StorageError) as error:
        logger.warning("the default model cannot be loaded: %s", error)
