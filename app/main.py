"""The application: what it opens, and what it is put together from."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
import anyio.to_thread
from fastapi import FastAPI
from redis import RedisError
from redis.asyncio import Redis as AsyncRedis

from app import docs, errors
from app.auth import parse_keys
from app.body import BodyLimits
from app.request_id import RequestId
from app.routers import datasets, generate, health, jobs, models, uploads
from app.sampling import Sampler
from worker.importing import Bounds, Importer
from worker.queue import JobQueue, open_queue
from worker.reconciler import RECONCILE_S, reconcile_in_turn
from worker.registry import Registry
from worker.settings import Settings
from worker.storage import Storage, StorageError

logger = logging.getLogger(__name__)

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
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.api_keys = parse_keys(settings.api_key_hashes)
    app.state.storage = storage
    app.state.queue = open_queue(settings, storage, patience_s=REDIS_PATIENCE_S)
    assert settings.redis_url is not None
    app.state.async_redis = AsyncRedis.from_url(
        settings.redis_url, decode_responses=True, socket_connect_timeout=REDIS_PATIENCE_S
    )
    app.state.sampler = Sampler(Registry(storage), settings.max_queue)
    app.state.importer = Importer(
        Bounds(
            memory_bytes=settings.max_import_bytes,
            timeout_s=settings.max_import_s,
            at_once=settings.max_imports,
        )
    )
    for router in (generate, datasets, uploads, jobs, models, health):
        app.include_router(router.router)
    errors.install(app)
    docs.install(app)
    app.add_middleware(
        BodyLimits,
        max_json_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(RequestId)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Waiting generate requests hold a thread each; the rest of the API must still find one.
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens += app.state.settings.max_queue
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_after, app.state.queue)
        yield
        app.state.importer.close()
        tasks.cancel_scope.cancel()
    await app.state.async_redis.aclose()


async def _look_after(queue: JobQueue) -> None:
    """Where no worker lives, somebody must still see that jobs wait for one."""
    while True:
        try:
            await anyio.to_thread.run_sync(reconcile_in_turn, queue)
        except (RedisError, StorageError) as error:
            logger.warning("cannot look after the jobs: %s", error)
        await anyio.sleep(RECONCILE_S)
