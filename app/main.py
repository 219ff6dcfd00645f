"""The FastAPI application: its routers, middleware and background tasks."""

import gc
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
import anyio.to_thread
from fastapi import FastAPI
from redis import RedisError

from app import docs, error_handlers
from app.middleware.access_log import AccessLog
from app.middleware.body import BodyLimits
from app.middleware.hosts import HostCheck
from app.middleware.rate_limits import RateLimits
from app.middleware.request_id import RequestId
from app.routers import (
    datasets,
    generate,
    health,
    images,
    jobs,
    metrics,
    models,
    openai,
    uploads,
    webhooks,
)
from app.server.connection import FAST_PATH
from app.server.fast_path import FastPath
from app.server.header_timeout import SHUTDOWN
from app.services import Services, open_services
from models.checkpoint import CheckpointError
from worker.ledger.maintenance import MAINTAIN_S, maintain
from worker.queue.queue import JobQueue
from worker.queue.reconciler import RECONCILE_S, reconcile_in_turn
from worker.registry.registry import ModelNotFound, WeightsDamaged
from worker.settings import Settings
from worker.storage import StorageError

logger = logging.getLogger(__name__)

GC_THRESHOLD = 20_000  # young objects before a garbage collection: those of many requests
ROUTERS = (
    *(generate, openai, images, models, datasets, uploads),
    *(jobs, webhooks, health, metrics),
)
DESCRIPTION = """\
Learns a shop's own product photos and generates new product images from them.

Upload a zip (`POST /datasets`), train (`POST /jobs/train`), watch (`GET /jobs/{id}`), generate
(`POST /generate`). Errors are `application/problem+json`.
"""


def create_app(settings: Settings) -> FastAPI:
    """The API over the Redis and the object store that `settings` name."""
    app = FastAPI(
        title="Vitrine",
        version=version("vitrine"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
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
    app.add_middleware(
        BodyLimits,
        max_json_bytes=services.settings.max_body_bytes,
        max_upload_bytes=services.settings.max_upload_bytes,
    )
    if services.rate_limiter is not None:
        app.add_middleware(RateLimits, limiter=services.rate_limiter)
    app.add_middleware(HostCheck, rules=services.host_rules)
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
        tasks.start_soon(_reconcile, services.queue)
        tasks.start_soon(_maintain, services, stopping)
        tasks.start_soon(services.webhooks.run)
        # Rate limits are checked asynchronously, in middleware that the fast path bypasses.
        fast_path = FastPath(services) if services.rate_limiter is None else None
        yield {FAST_PATH: fast_path, SHUTDOWN: services.event_streams.shutdown}
        stopping.set()
        services.importer.close()
        await anyio.to_thread.run_sync(services.sampler.batcher.close)
        tasks.cancel_scope.cancel()
    gc.unfreeze()
    await services.close()


def _warm_up(services: Services) -> None:
    """Load the default model, so that the first request need not wait for it."""
    try:
        services.sampler.engines.open(services.resolver.resolve(None))
    except (ModelNotFound, WeightsDamaged, CheckpointError, StorageError) as error:
        logger.warning("the default model cannot be loaded: %s", error)


async def _reconcile(queue: JobQueue) -> None:
    """Run the reconciler, in turn with other processes, also while no worker is alive."""
    while True:
        try:
            await anyio.to_thread.run_sync(reconcile_in_turn, queue)
        except (RedisError, StorageError) as error:
            logger.warning("reconciling the jobs failed and is tried again: %s", error)
        await anyio.sleep(RECONCILE_S)


async def _maintain(services: Services, stopping: threading.Event) -> None:
    """Build the job index where it is missing, and delete old jobs, until the process stops."""
    work = (services.queue.ledger, services.settings.keep_jobs_days, stopping.is_set)
    while True:
        try:
            await anyio.to_thread.run_sync(maintain, *work)
        except (RedisError, StorageError) as error:
            logger.warning("maintaining the job ledger failed and is tried again: %s", error)
        await anyio.sleep(MAINTAIN_S)
