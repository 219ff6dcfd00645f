"""The services that routes use, opened once for a process: a typed service locator.

`create_app` keeps one `Services` at `app.state.services`; routes get it by `ServicesDep`.
"""

from dataclasses import dataclass

import torch
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis

from app.auth import ApiKeys, parse_keys
from app.background.loops import BackgroundLoops
from app.classification.classifier_cache import ClassifierCache
from app.event_stream import QUIET_S, EventStreams
from app.generation.batching import Batcher
from app.generation.engine_cache import EngineCache
from app.generation.model_resolver import ModelResolver
from app.generation.sampler import Sampler
from app.generation.vocabularies import Vocabularies
from app.metrics import Metrics
from app.middleware import rate_limits
from app.middleware.hosts import HostRules, allowed_hosts
from app.middleware.rate_limits import RateLimiter
from app.webhooks.delivery_loop import DeliveryLoop
from app.webhooks.sender import Sender
from worker.datasets.datasets import DatasetStore
from worker.datasets.import_slot import Bounds
from worker.datasets.importing import Importer
from worker.datasets.uploads import Uploads
from worker.queue.queue import JobQueue, open_queue
from worker.registry.image_links import ImageLinks
from worker.registry.registry import Registry
from worker.settings import Settings
from worker.storage import Storage

EVENT_CONNECTIONS = 16  # to Redis, for event streams
PHOTO_S = 30.0  # in which a single photo is decoded
REDIS_TIMEOUT_S = 1.0  # so that a 503 is sent within 2 s if Redis is unreachable


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that a request may need."""

    settings: Settings
    api_keys: ApiKeys
    host_rules: HostRules
    rate_limiter: RateLimiter | None  # None where no limit is configured
    metrics: Metrics
    storage: Storage
    registry: Registry
    datasets: DatasetStore
    importer: Importer
    photo_importer: Importer  # of single photos, which do not wait for zips
    uploads: Uploads
    image_links: ImageLinks
    queue: JobQueue
    webhooks: DeliveryLoop
    loops: BackgroundLoops
    event_streams: EventStreams
    resolver: ModelResolver
    vocabularies: Vocabularies
    sampler: Sampler
    classifiers: ClassifierCache
    async_redis: tuple[AsyncRedis, ...]  # connections of the event loop, to be closed with it

    async def close(self) -> None:
        """Disconnect from Redis; the threads that use it have ended."""
        for redis in self.async_redis:
            await redis.aclose()


def open_services(settings: Settings) -> Services:
    """The services over the Redis and the object store that `settings` name.

    Raises:
        StorageError: the store cannot be opened.
        ValueError: the API keys, or the names of the service, are malformed.
    """
    assert settings.redis_url is not None
    assert settings.storage_url is not None
    keys = parse_keys(settings.api_key_hashes)
    hosts = allowed_hosts(settings.allowed_hosts, settings.host, keyless=not keys)
    storage = Storage.open(settings.storage_url, settings.public_storage_url)
    registry, metrics = Registry(storage), Metrics()
    queue = open_queue(settings, storage, timeout_s=REDIS_TIMEOUT_S)
    events_redis = _connect_events(settings.redis_url)
    limits_redis = rate_limits.connect(settings.redis_url)
    limit = settings.rate_limit
    importer = _importer(settings, settings.max_import_s)
    datasets = DatasetStore(storage, importer.run)
    engines = EngineCache(registry, settings.max_model_bytes)
    return Services(
        settings=settings,
        api_keys=keys,
        host_rules=HostRules(hosts, keyless=not keys),
        rate_limiter=RateLimiter(limit, limits_redis, keys) if limit else None,
        metrics=metrics,
        storage=storage,
        registry=registry,
        datasets=datasets,
        importer=importer,
        photo_importer=_importer(settings, PHOTO_S),
        uploads=Uploads(datasets, queue.leases),
        image_links=ImageLinks(storage, settings.link_ttl_s),
        queue=queue,
        webhooks=DeliveryLoop(queue, Sender(queue.targets)),
        loops=BackgroundLoops(metrics),
        event_streams=EventStreams(queue.ledger, events_redis),
        resolver=ModelResolver(registry, settings.default_model),
        vocabularies=Vocabularies(registry.synonyms),
        sampler=Sampler(engines, Batcher(torch.get_num_threads(), settings.max_queue, metrics)),
        classifiers=ClassifierCache(registry, datasets, torch.get_num_threads()),
        async_redis=(events_redis, limits_redis),
    )


def _connect_events(redis_url: str) -> AsyncRedis:
    # More commands at once than connections wait for one; they do not fail.
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=EVENT_CONNECTIONS,
        timeout=QUIET_S,
        decode_responses=True,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        socket_timeout=QUIET_S + 5,  # reading events blocks for QUIET_S
    )
    return AsyncRedis.from_pool(pool)


def _importer(settings: Settings, timeout_s: float) -> Importer:
    return Importer(
        Bounds(
            memory_bytes=settings.max_import_bytes,
            timeout_s=timeout_s,
            at_once=settings.max_imports,
        )
    )
