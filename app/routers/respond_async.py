"""`Prefer: respond-async` (RFC 7240): the header, and the answer 202 with the job it queues."""

from typing import Annotated, Any

from fastapi import Depends, Header
from fastapi.responses import JSONResponse

from app.errors import Problem
from app.schemas import JobView
from worker.queue.queue import JobQueue
from worker.queue.queue_position import position_of
from worker.schemas.jobs import JobRecord

IMPORTS = "validates and stores the zip"
JOB_ONLY = "Only with `Prefer: respond-async`."


async def respond_async(
    prefer: Annotated[
        str, Header(max_length=500, description="`respond-async`: answer 202 with a job at once.")
    ] = "",
) -> bool:
    """Whether the client prefers a job."""
    asked = {part.split(";")[0].strip().lower() for part in prefer.split(",")}
    return "respond-async" in asked


RespondAsyncDep = Annotated[bool, Depends(respond_async)]


def accepted(view: JobView) -> JSONResponse:
    """The answer that names the job."""
    headers = {"Location": view.links["self"], "Preference-Applied": "respond-async"}
    return JSONResponse(view.model_dump(mode="json"), 202, headers)


def queued(queue: JobQueue, record: JobRecord) -> JSONResponse:
    """The answer with a job that was queued."""
    return accepted(JobView.of(record, position_of(queue, record)))


def check_webhook(webhook: object, *, later: bool) -> None:
    """Raise Problem if there is a webhook, but no job whose end it could be told."""
    if webhook is not None and not later:
        raise Problem(422, "invalid_request", f"webhook: {JOB_ONLY}")


def can_accept(what: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: that a job does `what` if the client prefers so."""
    return {202: {"model": JobView, "description": f"With `Prefer: respond-async`: a job {what}"}}
