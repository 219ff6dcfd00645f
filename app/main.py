"""The application: what it opens, and what it is put together from."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
import anyio.to_thread
import torch
from fastapi import FastAPI
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

from app import docs, errors, rate_limits
from app.auth import parse_keys
from app.batching import Batcher
from app.body import BodyLimits
from app.engines import Engines
from app.event_stream import QUIET_S, EventStreams
from app.hosts import HostRules, Hosts, allowed_hosts
from app.metrics import Metrics
from app.observe import Observe
from app.patience import ENDING
from app.quick import Quick
from app.rate_limits import Limiter, RateLimits
from app.request_id import RequestId
from app.resolving import Resolver
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
from app.sampling import Sampler
from app.short_way import STATE
from app.webhook_delivery import Deliverer
from app.webhook_sender import Sender
from models.checkpoint import CheckpointError
from worker.importing import Bounds, Importer
from worker.queue import JobQueue, open_queue
from worker.reconciler import RECONCILE_S, reconcile_in_turn
from worker.registry import ModelNotFound, Registry, WeightsDamaged
from worker.settings import Settings
from worker.storage import Storage, StorageError

logger = logging.getLogger(__name__)

YOUNG_OBJECTS = 20_000  # for each of which Python looks for garbage: those of many requests
REDIS_PATIENCE_S = 1.0  # a client is told within 2 s that Redis is away
DESCRIPTION = """\
Learns a shop's own product photos and generates new product images from them.

Upload a zip (`POST /datasets`), train (`POST /jobs/train`), watch (`GET /jobs/{id}`), generate
(`POST /generate`). Errors are `application/problem+json`.
"""


def create_app(settings: Settings) -> FastAPI:
    """The API over the Redis and the object store that `settings` name."""
    assert settings.storage_url is not None
    storage = Storage.open(settings.storage_url)
    app = FastAPI(
        title="Vitrine",
        version=version("vitrine"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        webhooks=webhooks.sent,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.api_keys = keys = parse_keys(settings.api_key_hashes)
    hosts = allowed_hosts(settings.allowed_hosts, settings.host, keyless=not keys)
    app.state.host_rules = HostRules(hosts, keyless=not keys)
    app.state.storage = storage
    app.state.queue = open_queue(settings, storage, patience_s=REDIS_PATIENCE_S)
    app.state.deliverer = Deliverer(app.state.queue, Sender(app.state.queue.receivers))
    _connect(app, settings)
    app.state.event_streams = EventStreams(app.state.queue.ledger, app.state.async_redis)
    app.state.metrics = Metrics()
    registry = Registry(storage)
    app.state.resolver = Resolver(registry, settings.default_model)
    app.state.sampler = _sampler(registry, settings, app.state.metrics)
    app.state.importer = Importer(
        Bounds(
            memory_bytes=settings.max_import_bytes,
            timeout_s=settings.max_import_s,
            at_once=settings.max_imports,
        )
    )
    parts = (generate, openai, images, models, datasets, uploads, jobs, webhooks, health, metrics)
    for part in parts:
        app.include_router(part.router)
    errors.install(app)
    docs.install(app)
    _add_middleware(app, settings)
    return app


def _connect(app: FastAPI, settings: Settings) -> None:
    """Redis, for what waits and for what must not."""
    assert settings.redis_url is not None
    app.state.async_redis = AsyncRedis.from_url(
        settings.redis_url,
        decode_responses=True,
        socket_connect_timeout=REDIS_PATIENCE_S,
        socket_timeout=QUIET_S + 5,  # an event stream waits for that long without a word
    )
    app.state.limits_redis = redis = rate_limits.connect(settings.redis_url)
    limit = settings.rate_limit
    app.state.limiter = Limiter(limit, redis, app.state.api_keys) if limit else None


def _sampler(registry: Registry, settings: Settings, metrics: Metrics) -> Sampler:
    engines = Engines(registry, settings.max_model_bytes)
    return Sampler(engines, Batcher(torch.get_num_threads(), settings.max_queue, metrics))


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """From the innermost to the outermost."""
    app.add_middleware(
        BodyLimits,
        max_json_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
    )
    if app.state.limiter is not None:
        app.add_middleware(RateLimits, limiter=app.state.limiter)
    app.add_middleware(Hosts, rules=app.state.host_rules)
    app.add_middleware(Observe, metrics=app.state.metrics)
    app.add_middleware(RequestId)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    await anyio.to_thread.run_sync(_warm_up, app)
    # What is loaded by now stays. To look through it for garbage would stop every request for a
    # third of a second, every few thousand of them.
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_after, app.state.queue)
        tasks.start_soon(app.state.deliverer.run)
        yield {STATE: Quick(app.state), ENDING: app.state.event_streams.ending}
        app.state.importer.close()
        await anyio.to_thread.run_sync(app.state.sampler.batcher.close)
        tasks.cancel_scope.cancel()
    gc.unfreeze()
    await app.state.async_redis.aclose()
    await app.state.limits_redis.aclose()


def _warm_up(app: FastAPI) -> None:
    """Load the default model, so that the first request need not wait for it."""
    try:
        app.state.sampler.engines.open(app.state.resolver.resolve(None))
    except (ModelNotFound, WeightsDamaged, CheckpointError, StorageError) as error:
        logger.warning("the default model cannot be loaded: %s", error)


async def _look_after(queue: JobQueue) -> None:
    """Where no worker lives, somebody must still see that jobs wait for one."""
    while True:
        try:
            await anyio.to_thread.run_sync(reconcile_in_turn, queue)
        except (RedisError, StorageError) as error:
            logger.warning("cannot look after the jobs: %s", error)
        await anyio.sleep(RECONCILE_S)
