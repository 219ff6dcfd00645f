"""What routes are given: opened once in `create_app`, kept on the application's state."""

from typing import Annotated

from fastapi import Depends, Header, Query, Request, params
from redis.asyncio import Redis

from app.errors import Problem
from app.sampling import Sampler
from worker.datasets import DatasetStore
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


def registry(request: Request) -> Registry:
    """The models."""
    return Registry(storage(request))


def datasets(request: Request) -> DatasetStore:
    """The data sets."""
    return DatasetStore(storage(request), request.app.state.importer.run)


def uploads(request: Request) -> Uploads:
    """What clients send us."""
    return Uploads(datasets(request), queue(request).leases)


def accepts(*media_types: str) -> params.Depends:
    """A dependency that answers 406 when the client takes none of `media_types`."""

    def check(accept: Annotated[str, Header(include_in_schema=False)] = "*/*") -> None:
        wanted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
        offered = {*media_types, "*/*", *(kind.split("/")[0] + "/*" for kind in media_types)}
        if accept and not wanted & offered:
            raise Problem(406, "not_acceptable", f"This answers {', '.join(media_types)}.")

    return params.Depends(check)


SettingsDep = Annotated[Settings, Depends(settings)]
StorageDep = Annotated[Storage, Depends(storage)]
QueueDep = Annotated[JobQueue, Depends(queue)]
AsyncRedisDep = Annotated[Redis, Depends(async_redis)]
SamplerDep = Annotated[Sampler, Depends(sampler)]
RegistryDep = Annotated[Registry, Depends(registry)]
DatasetsDep = Annotated[DatasetStore, Depends(datasets)]
UploadsDep = Annotated[Uploads, Depends(uploads)]

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
JSON = accepts("application/json")
PNG = accepts("image/png")
EVENTS = accepts("text/event-stream", "application/json")
