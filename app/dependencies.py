"""What routes are given: opened once in `create_app`, kept on the application's state."""

from typing import Annotated

from fastapi import Depends, Header, Query, Request, params

from app.errors import Problem
from app.event_stream import EventStreams
from app.metrics import Metrics
from app.negotiation import preferred
from app.resolving import Resolver
from app.sampling import Sampler
from app.webhook_delivery import Deliverer
from worker.datasets import DatasetStore
from worker.links import Links
from worker.queue import JobQueue
from worker.registry import Registry
from worker.settings import Settings
from worker.storage import Storage
from worker.uploads import Uploads


async def settings(request: Request) -> Settings:
    """The service's settings."""
    value: Settings = request.app.state.settings
    return value


async def storage(request: Request) -> Storage:
    """The object store."""
    value: Storage = request.app.state.storage
    return value


async def queue(request: Request) -> JobQueue:
    """The job system."""
    value: JobQueue = request.app.state.queue
    return value


async def event_streams(request: Request) -> EventStreams:
    """What tells of jobs as they go on."""
    value: EventStreams = request.app.state.event_streams
    return value


async def sampler(request: Request) -> Sampler:
    """The warm generators."""
    value: Sampler = request.app.state.sampler
    return value


async def resolver(request: Request) -> Resolver:
    """What references to models mean."""
    value: Resolver = request.app.state.resolver
    return value


async def deliverer(request: Request) -> Deliverer:
    """What delivers webhooks."""
    value: Deliverer = request.app.state.deliverer
    return value


async def metrics(request: Request) -> Metrics:
    """What this process observes."""
    value: Metrics = request.app.state.metrics
    return value


StorageDep = Annotated[Storage, Depends(storage)]
SettingsDep = Annotated[Settings, Depends(settings)]
QueueDep = Annotated[JobQueue, Depends(queue)]


async def registry(storage: StorageDep) -> Registry:
    """The models."""
    return Registry(storage)


async def links(storage: StorageDep, settings: SettingsDep) -> Links:
    """Links to generated images."""
    return Links(storage, settings.link_ttl_s)


async def datasets(request: Request, storage: StorageDep) -> DatasetStore:
    """The data sets."""
    return DatasetStore(storage, request.app.state.importer.run)


DatasetsDep = Annotated[DatasetStore, Depends(datasets)]


async def uploads(datasets: DatasetsDep, queue: QueueDep) -> Uploads:
    """What clients send us."""
    return Uploads(datasets, queue.leases)


def accepts(*media_types: str) -> params.Depends:
    """A dependency that answers 406 when the client takes none of `media_types`."""

    async def check(accept: Annotated[str, Header(include_in_schema=False)] = "*/*") -> None:
        if preferred(accept, media_types) is None:
            raise Problem(406, "not_acceptable", f"This answers {', '.join(media_types)}.")

    return params.Depends(check)


EventStreamsDep = Annotated[EventStreams, Depends(event_streams)]
SamplerDep = Annotated[Sampler, Depends(sampler)]
DelivererDep = Annotated[Deliverer, Depends(deliverer)]
MetricsDep = Annotated[Metrics, Depends(metrics)]
RegistryDep = Annotated[Registry, Depends(registry)]
ResolverDep = Annotated[Resolver, Depends(resolver)]
LinksDep = Annotated[Links, Depends(links)]
UploadsDep = Annotated[Uploads, Depends(uploads)]

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
JSON = accepts("application/json")
PNG = accepts("image/png")
EVENTS = accepts("text/event-stream", "application/json")
