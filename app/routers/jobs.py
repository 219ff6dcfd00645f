"""`/jobs`: submit, list, follow and cancel jobs, and read their events and artifacts."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from app.dependencies import (
    EVENTS,
    JSON,
    IdempotentIdDep,
    Limit,
    ServicesDep,
    SubmitGenerationDep,
    require,
)
from app.errors import Problem, can_answer
from app.event_stream import events_after
from app.generation.async_generation import IdFor
from app.schemas import Artifact, JobView, Page
from models.search.search_space import narrow
from worker.ledger.artifacts import FILE_NAME, JobFiles, media_type
from worker.ledger.events import Event
from worker.ledger.records import JobNotFound
from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobRecord, JobStatus
from worker.schemas.requests import (
    GenerateJob,
    JobRequest,
    JobType,
    NasJob,
    TrainJob,
)

router = APIRouter(prefix="/jobs", tags=["jobs"])

MANAGE = Depends(require("manage"))
# The generate scope also covers bulk generation, and following those jobs.
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


def authorized_job(job_id: JobIdPath, services: ServicesDep, request: Request) -> JobRecord:
    """The job of a path; raises JobNotFound if the key's scopes do not cover it."""
    record = services.queue.fetch(job_id)
    scopes = getattr(request.state, "scopes", {"manage"})  # unset in a service without keys
    if record.type != "generate" and "manage" not in scopes:
        raise JobNotFound(f"no job {job_id}")
    return record


JobDep = Annotated[JobRecord, Depends(authorized_job)]


@router.post("/train", status_code=202, dependencies=[MANAGE, JSON])
def submit_train_job(
    job: Annotated[TrainJob, Body(openapi_examples={"sample": {"value": EXAMPLE}})],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    response: Response,
) -> JobView:
    """Queue a training job. Poll the URL in the `Location` header for its status."""
    dataset = services.datasets.fetch(job.dataset)
    photos = dataset.training_images
    if job.batch_size is not None and job.batch_size > photos:
        raise Problem(
            422, "invalid_request", f"batch_size: must be at most {photos}, the photos trained on"
        )
    if job.architecture is not None:
        _check_search(services.queue.fetch(job.architecture.from_job), job)
    return _submitted(services.queue, "train", job, id_for, response)


@router.post("/nas", status_code=202, dependencies=[MANAGE, JSON])
def submit_nas_job(
    job: Annotated[NasJob, Body(openapi_examples={"sample": {"value": NAS_EXAMPLE}})],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    response: Response,
) -> JobView:
    """Queue a search for a better generator and discriminator; it ends with a registered model."""
    dataset = services.datasets.fetch(job.dataset)
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
    return _submitted(services.queue, "nas", job, id_for, response)


@router.post("/generate", status_code=202, dependencies=[EITHER, JSON])
def submit_generate_job(
    job: Annotated[GenerateJob, Body(openapi_examples={"webp": {"value": GENERATE_EXAMPLE}})],
    services: ServicesDep,
    submit: SubmitGenerationDep,
    response: Response,
) -> JobView:
    """Queue up to 100,000 images: a file each, a zip, a manifest and a contact sheet.

    The files are the job's artifacts; the first ones appear while it still runs.
    """
    view = submit(job, services.resolver.resolve(job.model))
    response.headers["Location"] = view.links["self"]
    return view


@router.get("", dependencies=[MANAGE, JSON])
def list_jobs(
    services: ServicesDep,
    job_type: Annotated[JobType | None, Query(alias="type")] = None,
    status: JobStatus | None = None,
    limit: Limit = 20,
    after: Cursor = None,
) -> Page[JobView]:
    """Jobs, newest first."""
    records, has_more = services.queue.page(job_type, status, limit, after)
    positions = services.queue.positions(records)
    data = [JobView.of(record, positions.get(record.id)) for record in records]
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get("/{job_id}", dependencies=[EITHER, JSON])
def read_job(record: JobDep, services: ServicesDep) -> JobView:
    """Status, progress, metrics and, once finished, the result."""
    return JobView.of(record, services.queue.position(record))


@router.post(
    "/{job_id}/cancel", status_code=202, responses=can_answer(409), dependencies=[EITHER, JSON]
)
def cancel_job(record: JobDep, services: ServicesDep) -> JobView:
    """Cancel a job; it stops within seconds. A second request has no further effect."""
    services.queue.cancel(record.id)
    return JobView.of(services.queue.fetch(record.id), None)


@router.get("/{job_id}/artifacts", dependencies=[EITHER, JSON])
def list_artifacts(
    record: JobDep, services: ServicesDep, limit: Limit = 100, after: FileName | None = None
) -> Page[Artifact]:
    """The files a job has produced so far, by name: sheets, metrics, curves or generated images."""
    sizes = JobFiles(services.storage, record.id).sizes()
    names = [name for name in sizes if after is None or name > after]
    data = [
        Artifact(name=name, size_bytes=sizes[name], url=f"/jobs/{record.id}/artifacts/{name}")
        for name in names[:limit]
    ]
    return Page(data=data, has_more=len(names) > limit, last_id=data[-1].name if data else None)


@router.get("/{job_id}/artifacts/{name}", response_class=StreamingResponse, dependencies=[EITHER])
def read_artifact(record: JobDep, name: ArtifactPath, services: ServicesDep) -> Response:
    """One of a job's files."""
    key = JobFiles(services.storage, record.id).key(name)
    headers = {"Content-Length": str(services.storage.size(key))}
    return StreamingResponse(
        services.storage.stream(key), headers=headers, media_type=media_type(name)
    )


def last_seen_event(
    last_event_id: Annotated[EventId | None, Header()] = None,
    after: Annotated[EventId | None, Query(description="A `last_id`.")] = None,
) -> str:
    """Id of the last event that the client has received; `0-0` if none."""
    return last_event_id or after or "0-0"


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"model": Page[Event], "content": STREAM}},
    dependencies=[EITHER, EVENTS],
)
async def read_events(
    record: JobDep,
    services: ServicesDep,
    after_event: Annotated[str, Depends(last_seen_event)],
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    limit: Limit = 100,
) -> Response:
    """Stream a job's events as they happen: `status`, `progress`, `metric`, `sample` and `log`.

    The stream ends with the job. A client that reconnects with `Last-Event-ID` misses nothing. With
    `Accept: application/json` the answer is a page of the events so far, oldest first.
    """
    if "application/json" not in accept:
        stream = services.event_streams.follow(record, after_event)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")
    events = await to_thread.run_sync(events_after, services.queue.ledger, record, after_event)
    data = events[:limit]
    page = Page(data=data, has_more=len(events) > limit, last_id=data[-1].id if data else None)
    return Response(page.model_dump_json(), media_type="application/json")


def _check_search(search: JobRecord, job: TrainJob) -> None:
    """Check that `architecture.from_job` is a finished search at this resolution."""
    if not isinstance(search.request, NasJob) or search.status != "succeeded":
        detail = "must be a nas job that has succeeded"
    elif search.request.resolution != job.resolution:
        detail = f"searched at {search.request.resolution} px; set resolution to that"
    else:
        return
    raise Problem(422, "invalid_request", f"architecture.from_job: {detail}")


def _submitted(
    queue: JobQueue, job_type: JobType, job: JobRequest, id_for: IdFor, response: Response
) -> JobView:
    job_id = id_for("job", lambda: job.model_dump_json().encode())
    record = queue.submit(job_type, job, job_id)
    response.headers["Location"] = f"/jobs/{record.id}"
    return JobView.of(record, queue.position(record))
