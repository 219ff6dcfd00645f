"""`/jobs`: list, follow, cancel and delete jobs, and read their events and artifacts."""

import hashlib
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints

from app.dependencies import (
    EVENTS,
    JSON,
    Limit,
    ServicesDep,
    require,
)
from app.errors import Problem, can_answer
from app.event_stream import events_after
from app.schemas import Artifact, JobView, Page
from worker.ledger.artifacts import FILE_NAME, JobFiles, media_type
from worker.ledger.events import Event
from worker.ledger.records import JobNotFound
from worker.queue.queue_position import position_of, positions_of
from worker.schemas.jobs import JobRecord, JobStatus
from worker.schemas.requests import BULK_FILES, JobType, ModelName

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
POLL_RUNNING_S, POLL_QUEUED_S = 1, 5


def authorized_job(job_id: JobIdPath, services: ServicesDep, request: Request) -> JobRecord:
    """The job of a path; raises JobNotFound if the key's scopes do not cover it."""
    record = services.queue.fetch(job_id)
    scopes = getattr(request.state, "scopes", {"manage"})  # unset in a service without keys
    if record.type != "generate" and "manage" not in scopes:
        raise JobNotFound(f"no job {job_id}")
    return record


JobDep = Annotated[JobRecord, Depends(authorized_job)]


@router.get("", dependencies=[MANAGE, JSON])
def list_jobs(
    services: ServicesDep,
    job_type: Annotated[JobType | None, Query(alias="type")] = None,
    status: JobStatus | None = None,
    model: Annotated[
        ModelName | None, Query(description="Name of the model that jobs make or generate with.")
    ] = None,
    limit: Limit = 20,
    after: Cursor = None,
) -> Page[JobView]:
    """Jobs, newest first."""
    records, has_more = services.queue.page(job_type, status, limit, after, model)
    positions = positions_of(services.queue, records)
    data = [JobView.of(record, positions.get(record.id)) for record in records]
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get(
    "/{job_id}",
    response_model=JobView,
    responses={304: {"description": "The job is as the client knows it."}},
    dependencies=[EITHER, JSON],
)
def read_job(
    record: JobDep,
    services: ServicesDep,
    if_none_match: Annotated[str | None, Header(max_length=200, description="An `ETag`.")] = None,
) -> Response:
    """Status, progress, metrics and, once finished, the result.

    The `ETag` changes with the job: sent back as `If-None-Match`, the answer is 304 while it has
    not. `Retry-After` says in how many seconds to poll again; an ended job has none.
    """
    view = JobView.of(record, position_of(services.queue, record))
    body = view.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if not record.terminal:
        headers["Retry-After"] = str(POLL_RUNNING_S if record.is_running else POLL_QUEUED_S)
    if if_none_match is not None and (etag in if_none_match or if_none_match.strip() == "*"):
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")


@router.delete("/{job_id}", status_code=204, responses=can_answer(409), dependencies=[EITHER])
def delete_job(record: JobDep, services: ServicesDep) -> None:
    """Delete an ended job with its events and files. Models that it has made stay."""
    if not record.terminal:
        raise Problem(409, "job_has_not_ended", "Cancel the job, and wait until it has ended.")
    services.queue.ledger.delete(record.id)


@router.post(
    "/{job_id}/cancel", status_code=202, responses=can_answer(409), dependencies=[EITHER, JSON]
)
def cancel_job(record: JobDep, services: ServicesDep) -> JobView:
    """Cancel a job; it stops within seconds.

    A second request has no further effect. A job that has succeeded or failed answers 409.
    """
    services.queue.cancel(record.id)
    return JobView.of(services.queue.fetch(record.id), None)


def artifact_order(name: str) -> tuple[bool, str]:
    """The sort key of a job's files."""
    return name not in BULK_FILES.values(), name


@router.get("/{job_id}/artifacts", dependencies=[EITHER, JSON])
def list_artifacts(
    record: JobDep, services: ServicesDep, limit: Limit = 100, after: FileName | None = None
) -> Page[Artifact]:
    """The files a job has produced so far, by name: sheets, metrics, curves or generated images.

    The zip, the manifest and the sheet of generated images come before the images.
    """
    sizes = JobFiles(services.storage, record.id).sizes()
    names = sorted(sizes, key=artifact_order)
    if after is not None:
        names = [name for name in names if artifact_order(name) > artifact_order(after)]
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
