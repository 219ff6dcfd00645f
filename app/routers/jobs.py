"""Jobs: submitted, watched, cancelled; the files they make."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from app.auth import require
from app.deferred import DeferDep
from app.dependencies import (
    EVENTS,
    JSON,
    DatasetsDep,
    EventStreamsDep,
    Limit,
    QueueDep,
    ResolverDep,
    StorageDep,
)
from app.errors import Problem, can_answer
from app.event_stream import past
from app.idempotency import IdFor, OnceDep
from app.schemas import Artifact, JobView, Page
from models.search_space import narrow
from worker.artifacts import FILE_NAME, JobFiles, media_type
from worker.events import Event
from worker.jobs import JobRecord, JobStatus
from worker.queue import JobQueue
from worker.records import JobNotFound
from worker.requests import GenerateJob, JobRequest, JobType, NasJob, TrainJob

router = APIRouter(prefix="/jobs", tags=["jobs"])

MANAGE = Depends(require("manage"))
# Whoever may generate may also do so in bulk, and follow the jobs that do.
EITHER = Depends(require("generate", "manage"))

JOB_ID = r"^job_[0-9a-z]{20}$"
JobIdPath = Annotated[str, Path(pattern=JOB_ID, description="The `id` returned at submission.")]
# As FastAPI documents its own streams of events.
STREAM: dict[str, Any] = {"text/event-stream": {"itemSchema": {"type": "object"}}}
EventId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,16}-[0-9]{1,16}$")]
Cursor = Annotated[str | None, Query(pattern=JOB_ID, description="A `last_id`.")]
ArtifactPath = Annotated[str, Path(pattern=FILE_NAME, examples=["samples.png"])]
FileName = Annotated[str, Query(pattern=FILE_NAME, description="A `last_id`.")]
EXAMPLE = {
    "dataset": "ds_00000000000000sample",
    "model": "my-first-model",
    "resolution": 32,
    "preset": "fast",
    "max_seconds": 30,
    "batch_size": 16,
}
NAS_EXAMPLE = {
    "dataset": "ds_00000000000000sample",
    "model": "my-searched-model",
    "resolution": 32,
    "preset": "fast",
    "max_trials": 6,
    "max_seconds": 120,
}
GENERATE_EXAMPLE = {"model": "fashion-mnist", "n": 200, "seed": 1, "output_format": "webp"}


def visible(job_id: JobIdPath, queue: QueueDep, request: Request) -> JobRecord:
    """The job of a path, where the key may see it."""
    record = queue.fetch(job_id)
    scopes = getattr(request.state, "scopes", {"manage"})  # without keys there are none
    if record.type != "generate" and "manage" not in scopes:
        raise JobNotFound(f"no job {job_id}")
    return record


JobDep = Annotated[JobRecord, Depends(visible)]


@router.post("/train", status_code=202, dependencies=[MANAGE, JSON])
def submit_train_job(
    job: Annotated[TrainJob, Body(openapi_examples={"sample": {"value": EXAMPLE}})],
    queue: QueueDep,
    datasets: DatasetsDep,
    once: OnceDep,
    response: Response,
) -> JobView:
    """Queue a training job. Poll the URL in the `Location` header for its status."""
    dataset = datasets.fetch(job.dataset)
    photos = dataset.training_images
    if job.batch_size is not None and job.batch_size > photos:
        raise Problem(
            422, "invalid_request", f"batch_size: must be at most {photos}, the photos trained on"
        )
    if job.architecture is not None:
        _check_search(queue.fetch(job.architecture.from_job), job)
    return _submitted(queue, "train", job, once, response)


@router.post("/nas", status_code=202, dependencies=[MANAGE, JSON])
def submit_nas_job(
    job: Annotated[NasJob, Body(openapi_examples={"sample": {"value": NAS_EXAMPLE}})],
    queue: QueueDep,
    datasets: DatasetsDep,
    once: OnceDep,
    response: Response,
) -> JobView:
    """Queue a search for a better generator and discriminator; it ends with a registered model."""
    dataset = datasets.fetch(job.dataset)
    if not dataset.is_searchable:
        raise Problem(
            422, "invalid_request", "dataset: has too few photos for a search; upload more"
        )
    if job.search_space is not None:
        try:
            narrow(job.search_space)
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from error
    category = job.generate.category if job.generate else None
    if category is not None and category not in dataset.categories:
        known = ", ".join(dataset.categories)
        raise Problem(422, "unknown_category", f"generate.category: must be one of {known}")
    return _submitted(queue, "nas", job, once, response)


@router.post("/generate", status_code=202, dependencies=[EITHER, JSON])
def submit_generate_job(
    job: Annotated[GenerateJob, Body(openapi_examples={"webp": {"value": GENERATE_EXAMPLE}})],
    resolver: ResolverDep,
    defer: DeferDep,
    response: Response,
) -> JobView:
    """Queue up to 100,000 images: a file each, a zip, a manifest and a contact sheet.

    The files are the job's artifacts, the first ones while it still runs.
    """
    view = defer(job, resolver.resolve(job.model))
    response.headers["Location"] = view.links["self"]
    return view


@router.get("", dependencies=[MANAGE, JSON])
def list_jobs(
    queue: QueueDep,
    job_type: Annotated[JobType | None, Query(alias="type")] = None,
    status: JobStatus | None = None,
    limit: Limit = 20,
    after: Cursor = None,
) -> Page[JobView]:
    """Jobs, newest first."""
    records, has_more = queue.page(job_type, status, limit, after)
    data = [JobView.of(record, queue.position(record)) for record in records]
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get("/{job_id}", dependencies=[EITHER, JSON])
def read_job(record: JobDep, queue: QueueDep) -> JobView:
    """Status, progress, metrics and, once finished, the result."""
    return JobView.of(record, queue.position(record))


@router.post(
    "/{job_id}/cancel", status_code=202, responses=can_answer(409), dependencies=[EITHER, JSON]
)
def cancel_job(record: JobDep, queue: QueueDep) -> JobView:
    """Ask a job to stop; it does within seconds. Asking twice is no error."""
    queue.cancel(record.id)
    return JobView.of(queue.fetch(record.id), None)


@router.get("/{job_id}/artifacts", dependencies=[EITHER, JSON])
def list_artifacts(
    record: JobDep, storage: StorageDep, limit: Limit = 100, after: FileName | None = None
) -> Page[Artifact]:
    """The files a job has made so far, by name: sheets, metrics, curves; or generated images."""
    sizes = JobFiles(storage, record.id).sizes()
    names = [name for name in sizes if after is None or name > after]
    data = [
        Artifact(name=name, size_bytes=sizes[name], url=f"/jobs/{record.id}/artifacts/{name}")
        for name in names[:limit]
    ]
    return Page(data=data, has_more=len(names) > limit, last_id=data[-1].name if data else None)


@router.get("/{job_id}/artifacts/{name}", response_class=StreamingResponse, dependencies=[EITHER])
def read_artifact(record: JobDep, name: ArtifactPath, storage: StorageDep) -> Response:
    """One of a job's files."""
    key = JobFiles(storage, record.id).key(name)
    headers = {"Content-Length": str(storage.size(key))}
    return StreamingResponse(storage.stream(key), headers=headers, media_type=media_type(name))


def seen(
    last_event_id: Annotated[EventId | None, Header()] = None,
    after: Annotated[EventId | None, Query(description="A `last_id`.")] = None,
) -> str:
    """The last event that a client knows of."""
    return last_event_id or after or "0-0"


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"model": Page[Event], "content": STREAM}},
    dependencies=[EITHER, EVENTS],
)
async def read_events(
    record: JobDep,
    queue: QueueDep,
    streams: EventStreamsDep,
    behind: Annotated[str, Depends(seen)],
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    limit: Limit = 100,
) -> Response:
    """What happens to a job: `status`, `progress`, `metric`, `sample` and `log`, as it happens.

    The stream ends with the job. A client that comes back with `Last-Event-ID` misses nothing. With
    `Accept: application/json` what has happened so far, in pages, oldest first.
    """
    if "application/json" not in accept:
        stream = streams.follow(record, behind)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")
    events = await to_thread.run_sync(past, queue.ledger, record, behind)
    data = events[:limit]
    page = Page(data=data, has_more=len(events) > limit, last_id=data[-1].id if data else None)
    return Response(page.model_dump_json(), media_type="application/json")


def _check_search(search: JobRecord, job: TrainJob) -> None:
    """Whether the job that an architecture is taken from has one for this training."""
    if not isinstance(search.request, NasJob) or search.status != "succeeded":
        detail = "must be a nas job that has succeeded"
    elif search.request.resolution != job.resolution:
        detail = f"searched at {search.request.resolution} px; set resolution to that"
    else:
        return
    raise Problem(422, "invalid_request", f"architecture.from_job: {detail}")


def _submitted(
    queue: JobQueue, job_type: JobType, job: JobRequest, once: IdFor, response: Response
) -> JobView:
    job_id = once("job", lambda: job.model_dump_json().encode())
    record = queue.submit(job_type, job, job_id)
    response.headers["Location"] = f"/jobs/{record.id}"
    return JobView.of(record, queue.position(record))
