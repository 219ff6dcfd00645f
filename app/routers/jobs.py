"""Jobs: submitted, watched, cancelled; the files they make."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from app.auth import require
from app.dependencies import (
    EVENTS,
    JSON,
    AsyncRedisDep,
    DatasetsDep,
    Limit,
    QueueDep,
    StorageDep,
)
from app.errors import Problem
from app.event_stream import follow, past
from app.idempotency import IdFor, OnceDep
from app.schemas import Artifact, Artifacts, JobView, Page
from worker.artifacts import FILE_NAME, JobFiles, media_type
from worker.events import Event
from worker.jobs import JobRecord, JobStatus
from worker.queue import JobQueue
from worker.requests import JobRequest, JobType, NasJob, TrainJob

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[Depends(require("manage"))])

JOB_ID = r"^job_[0-9a-z]{20}$"
JobIdPath = Annotated[str, Path(pattern=JOB_ID, description="The `id` returned at submission.")]
STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
EventId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,16}-[0-9]{1,16}$")]
Cursor = Annotated[str | None, Query(pattern=JOB_ID, description="A `last_id`.")]
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


@router.post("/train", status_code=202, dependencies=[JSON])
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


@router.post("/nas", status_code=202, dependencies=[JSON])
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
    category = job.generate.category if job.generate else None
    if category is not None and category not in dataset.categories:
        known = ", ".join(dataset.categories)
        raise Problem(422, "unknown_category", f"generate.category: must be one of {known}")
    return _submitted(queue, "nas", job, once, response)


@router.get("", dependencies=[JSON])
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


@router.get("/{job_id}", dependencies=[JSON])
def read_job(job_id: JobIdPath, queue: QueueDep) -> JobView:
    """Status, progress, metrics and, once finished, the result."""
    return _view(queue, job_id)


@router.post("/{job_id}/cancel", status_code=202, dependencies=[JSON])
def cancel_job(job_id: JobIdPath, queue: QueueDep) -> JobView:
    """Ask a job to stop; it does within seconds. Asking twice is no error."""
    queue.cancel(job_id)
    return _view(queue, job_id)


@router.get("/{job_id}/artifacts", dependencies=[JSON])
def list_artifacts(job_id: JobIdPath, queue: QueueDep, storage: StorageDep) -> Artifacts:
    """The files a job has made so far: sample sheets, metrics, curves; trials and Pareto plot."""
    queue.fetch(job_id)
    return Artifacts(
        data=[
            Artifact(
                name=name, size_bytes=storage.size(key), url=f"/jobs/{job_id}/artifacts/{name}"
            )
            for name, key in JobFiles(storage, job_id).keys().items()
        ]
    )


@router.get("/{job_id}/artifacts/{name}", response_class=Response)
def read_artifact(
    job_id: JobIdPath,
    name: Annotated[str, Path(pattern=FILE_NAME, examples=["samples.png"])],
    queue: QueueDep,
    storage: StorageDep,
) -> Response:
    """One of a job's files."""
    queue.fetch(job_id)
    data = JobFiles(storage, job_id).read(name)
    return Response(data, media_type=media_type(name))


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
    dependencies=[EVENTS],
)
async def read_events(
    job_id: JobIdPath,
    queue: QueueDep,
    redis: AsyncRedisDep,
    behind: Annotated[str, Depends(seen)],
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    limit: Limit = 100,
) -> Response:
    """What happens to a job: `status`, `progress`, `metric`, `sample` and `log`, as it happens.

    The stream ends with the job. A client that comes back with `Last-Event-ID` misses nothing. With
    `Accept: application/json` what has happened so far, in pages, oldest first.
    """
    record = await to_thread.run_sync(queue.fetch, job_id)
    if "application/json" not in accept:
        stream = follow(queue.ledger, redis, record, behind)
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


def _view(queue: JobQueue, job_id: str) -> JobView:
    record = queue.fetch(job_id)
    return JobView.of(record, queue.position(record))
