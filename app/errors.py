"""Every error answer in one shape: application/problem+json (RFC 9457).

Domain errors know no HTTP; the table here gives each its status and code. No answer holds a
traceback, a path or an address.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis import RedisError
from starlette.exceptions import HTTPException
from torch import OutOfMemoryError

from app.methods import is_exact, methods_of
from models.archive import DatasetError
from models.checkpoint import CheckpointError
from worker.addresses import Unresolved
from worker.aliases import NothingToRollBack
from worker.datasets import DatasetInUse, DatasetNotFound
from worker.direct_uploads import UploadNotFound, UploadTooLarge
from worker.idempotency import KeyReused
from worker.importing import TooManyImports
from worker.in_flight import RequestInFlight
from worker.jobs import IllegalMove
from worker.links import LinkRefused
from worker.queue import QueueFull
from worker.receivers import ReceiverRefused
from worker.records import JobNotFound
from worker.registry import InvalidReference, ModelNotFound, VersionInUse, WeightsDamaged
from worker.storage import CannotSign, ObjectNotFound, StorageError, StorageFull, is_full
from worker.webhooks import NothingAnnounced, NoWebhook

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
MAX_LISTED_ERRORS = 20
OPENAI = "/v1/"  # paths whose clients expect errors of another form
CLIENT_GONE = 499  # as nginx counts it; nobody reads the answer
# RFC 9110's phrases; Python's differ before 3.13.
TITLES = {
    413: "Content Too Large",
    422: "Unprocessable Content",
    CLIENT_GONE: "Client Closed Request",
}


class ErrorItem(BaseModel):
    """One offending field."""

    loc: list[str | int]
    msg: str
    type: str


class ProblemDetails(BaseModel):
    """The body of every error answer."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[ErrorItem] = []


class OpenAIErrorItem(BaseModel):
    """An error in the words of OpenAI's clients."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """The body of every error answer below `OPENAI`."""

    error: OpenAIErrorItem


def can_answer(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: errors that are not plain from what it takes."""
    return {status: {} for status in statuses}


class Problem(HTTPException):
    """An error answer in the making; FastAPI passes it through where it would wrap others."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


class Answer(NamedTuple):
    """How a domain error is answered; `detail` None shows the error's own words."""

    status: int
    code: str
    detail: str | None = None
    passes: bool = False  # soon, so that the client is told when to come again


# The first match counts, so a subclass stands before its parent.
ANSWERS: dict[type[Exception], Answer] = {
    JobNotFound: Answer(404, "job_not_found"),
    DatasetNotFound: Answer(404, "dataset_not_found"),
    UploadNotFound: Answer(404, "upload_not_found"),
    ModelNotFound: Answer(404, "model_not_found"),
    ObjectNotFound: Answer(404, "not_found", "There is no such file."),
    LinkRefused: Answer(403, "link_refused"),
    InvalidReference: Answer(422, "invalid_model_reference"),
    NoWebhook: Answer(404, "webhook_not_found"),
    NothingAnnounced: Answer(409, "nothing_announced"),
    ReceiverRefused: Answer(422, "webhook_refused"),
    Unresolved: Answer(422, "webhook_refused"),
    IllegalMove: Answer(409, "job_has_ended"),
    VersionInUse: Answer(409, "version_in_use"),
    NothingToRollBack: Answer(409, "nothing_to_roll_back"),
    DatasetInUse: Answer(409, "dataset_in_use"),
    QueueFull: Answer(429, "queue_full"),
    TooManyImports: Answer(429, "too_many_uploads"),
    RequestInFlight: Answer(409, "idempotency_in_flight", passes=True),
    UploadTooLarge: Answer(413, "body_too_large"),
    CannotSign: Answer(
        409, "no_direct_uploads", "This service's object store takes no uploads: POST /datasets."
    ),
    KeyReused: Answer(422, "idempotency_key_reused"),
    WeightsDamaged: Answer(503, "model_unavailable", "This model's weights are damaged."),
    CheckpointError: Answer(503, "model_unavailable", "This model's weights cannot be read."),
    OutOfMemoryError: Answer(503, "out_of_memory", "No memory is left for this; try fewer images."),
    StorageFull: Answer(507, "storage_full", "The object store is full; nothing was kept."),
    StorageError: Answer(503, "storage_unavailable", "The object store does not answer."),
    RedisError: Answer(503, "redis_unavailable", "The job system does not answer."),
}
UNPROCESSABLE_ARCHIVE = 422
TOO_LARGE_CODES = {"too_large", "too_many_members"}


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    for kind in ANSWERS:
        app.add_exception_handler(kind, domain_error)
    app.add_exception_handler(DatasetError, _dataset_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, _fault)


def problem_response(
    request: Request, answer: Answer, errors: Sequence[ErrorItem] = ()
) -> JSONResponse:
    """The answer as a response."""
    body = ProblemDetails(
        title=_title(answer.status),
        status=answer.status,
        code=answer.code,
        detail=answer.detail or "",
        request_id=str(request.scope.get("state", {}).get("request_id", "")),
        errors=list(errors),
    )
    passes = answer.passes or answer.status in (429, 503)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if passes else None
    if request.url.path.startswith(OPENAI):
        return _openai_error(body, headers)
    return JSONResponse(body.model_dump(), answer.status, headers, MEDIA_TYPE)


def _openai_error(problem: ProblemDetails, headers: dict[str, str] | None) -> JSONResponse:
    """The same, as OpenAI's clients know errors."""
    status = 400 if problem.status == 422 else problem.status
    parameter = problem.detail.partition(":")[0] if problem.status == 422 else ""
    error = OpenAIErrorItem(
        message=problem.detail,
        type="server_error" if status >= 500 else "invalid_request_error",
        param=parameter if parameter.isidentifier() else None,
        code=problem.code,
    )
    return JSONResponse(OpenAIError(error=error).model_dump(), status, headers)


async def domain_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to one of `ANSWERS`."""
    answer = next(answer for kind, answer in ANSWERS.items() if isinstance(error, kind))
    return problem_response(request, answer._replace(detail=answer.detail or str(error)))


async def _dataset_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DatasetError)
    status = 413 if error.code in TOO_LARGE_CODES else UNPROCESSABLE_ARCHIVE
    return problem_response(request, Answer(status, error.code, str(error)))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    items = [_item(raw) for raw in error.errors()[:MAX_LISTED_ERRORS]]
    first = items[0]
    if first.loc[0] == "path" and request.method != "PUT":
        if is_exact(request.app, request.url.path):
            return _wrong_method(request, methods_of(request.app, request.url.path))
        # What no id can look like is as unknown as any other; PUT names what it makes.
        return problem_response(request, Answer(404, "not_found", "Nothing has this name or id."))
    field = ".".join(str(part) for part in first.loc[1:])
    answer = Answer(422, "invalid_request", f"{field}: {first.msg}" if field else first.msg)
    return problem_response(request, answer, items)


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a problem, or to an error of the framework's."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and (methods := methods_of(request.app, request.url.path)):
        return _wrong_method(request, methods)
    if is_full(error.__cause__):  # FastAPI takes any fault while a form arrives for the client's
        return problem_response(request, ANSWERS[StorageFull])
    code = error.code if isinstance(error, Problem) else _code(error.status_code)
    response = problem_response(request, Answer(error.status_code, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


def _wrong_method(request: Request, methods: Sequence[str]) -> JSONResponse:
    allowed = ", ".join(methods)
    detail = f"This path takes {allowed}."
    response = problem_response(request, Answer(405, "method_not_allowed", detail))
    response.headers["Allow"] = allowed
    return response


async def _fault(request: Request, _error: Exception) -> JSONResponse:
    detail = "The service failed; its log has the cause under this request id."
    response = problem_response(request, Answer(500, "internal_error", detail))
    # Starlette answers faults outside all middleware, so also outside RequestId.
    response.headers["X-Request-Id"] = str(request.scope["state"]["request_id"])
    return response


def _title(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


def _code(status: int) -> str:
    return _title(status).lower().replace(" ", "_").replace("-", "_")


def _item(raw: dict[str, Any]) -> ErrorItem:
    # The offending input itself is not echoed: it may be long, or a secret.
    message = str(raw["msg"]).removeprefix("Value error, ")
    return ErrorItem(loc=list(raw["loc"]), msg=message, type=str(raw["type"]))
