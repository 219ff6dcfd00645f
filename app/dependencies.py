"""What routes are given: opened once in `create_app`, kept on the application's state."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header, Query, Request, params
from redis.asyncio import Redis

from app.errors import Problem
from app.metrics import Metrics
from app.negotiation import preferred
from app.sampling import Sampler
from app.webhook_delivery import Deliverer
from worker.datasets import DatasetStore
from worker.links import Links
from worker.model_versions import ModelCard
from worker.queue import JobQueue
from worker.registry import Registry
from worker.settings import Settings
from worker.storage import Storage
from worker.uploads import Uploads


def settings(request: Request) -> Settings:
    """The service's settings."""
    value: Settings = request.app.state.settings
    return value


def storage(request: Request) -> Storage:
    """The object store."""
    value: Storage = request.app.state.storage
    return value


def queue(request: Request) -> JobQueue:
    """The job system."""
    value: JobQueue = request.app.state.queue
    return value


def async_redis(request: Request) -> Redis:
    """A client for what waits for long."""
    value: Redis = request.app.state.async_redis
    return value


def sampler(request: Request) -> Sampler:
    """The warm generators."""
    value: Sampler = request.app.state.sampler
    return value


def deliverer(request: Request) -> Deliverer:
    """What delivers webhooks."""
    value: Deliverer = request.app.state.deliverer
    return value


def metrics(request: Request) -> Metrics:
    """What this process observes."""
    value: Metrics = request.app.state.metrics
    return value


def registry(request: Request) -> Registry:
    """The models."""
    return Registry(storage(request))


def resolve(request: Request) -> Callable[[str | None], ModelCard]:
    """Finds the version that a reference means; None: the default model's.

    It raises InvalidReference and ModelNotFound.
    """
    default = settings(request).default_model
    return lambda reference: registry(request).resolve(default if reference is None else reference)


def links(request: Request) -> Links:
    """Links to generated images."""
    return Links(storage(request), settings(request).link_ttl_s)


def datasets(request: Request) -> DatasetStore:
    """The data sets."""
    return DatasetStore(storage(request), request.app.state.importer.run)


def uploads(request: Request) -> Uploads:
    """What clients send us."""
    return Uploads(datasets(request), queue(request).leases)


def accepts(*media_types: str) -> params.Depends:
    """A dependency that answers 406 when the client takes none of `media_types`."""

    def check(accept: Annotated[str, Header(include_in_schema=False)] = "*/*") -> None:
        if preferred(accept, media_types) is None:
            raise Problem(406, "not_acceptable", f"This answers {', '.join(media_types)}.")

    return params.Depends(check)


SettingsDep = Annotated[Settings, Depends(settings)]
StorageDep = Annotated[Storage, Depends(storage)]
QueueDep = Annotated[JobQueue, Depends(queue)]
AsyncRedisDep = Annotated[Redis, Depends(async_redis)]
SamplerDep = Annotated[Sampler, Depends(sampler)]
DelivererDep = Annotated[Deliverer, Depends(deliverer)]
MetricsDep = Annotated[Metrics, Depends(metrics)]
RegistryDep = Annotated[Registry, Depends(registry)]
ResolveDep = Annotated[Callable[[str | None], ModelCard], Depends(resolve)]
LinksDep = Annotated[Links, Depends(links)]
DatasetsDep = Annotated[DatasetStore, Depends(datasets)]
UploadsDep = Annotated[Uploads, Depends(uploads)]

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
JSON = accepts("application/json")
PNG = accepts("image/png")
EVENTS = accepts("text/event-stream", "application/json")
