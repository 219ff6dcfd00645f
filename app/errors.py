"""Error answers as application/problem+json (RFC 9457), mapped from domain errors.

Domain errors do not depend on HTTP; the table here maps each to its status and code. No answer
contains a traceback, a path or an address.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from redis import RedisError
from starlette.exceptions import HTTPException
from torch import OutOfMemoryError

from models.checkpoint import CheckpointError
from models.classification.photo_classifier import BackboneChanged
from models.data.photos import ImageError
from worker.datasets.cutouts import NotPrepared
from worker.datasets.dataset_classifiers import ClassifierMissing
from worker.datasets.datasets import DatasetInUse, DatasetNotFound
from worker.datasets.direct_uploads import UploadNotFound, UploadTooLarge
from worker.datasets.import_slot import ImportAbandoned, TooManyImports
from worker.ledger.idempotency import KeyReused
from worker.ledger.in_flight import RequestInFlight
from worker.ledger.records import JobNotFound
from worker.queue.queue import QueueFull
from worker.registry.aliases import AliasChanged, NothingToRollBack
from worker.registry.image_links import LinkRefused
from worker.registry.registry import (
    InvalidReference,
    ModelNotFound,
    WeightsDamaged,
)
from worker.registry.removal import ModelInUse, VersionInUse
from worker.registry.synonyms import AmbiguousSynonym, UnknownCategory
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import IllegalMove
from worker.storage import CannotSign, ObjectNotFound, StorageError, StorageFull
from worker.webhooks.addresses import Unresolved
from worker.webhooks.deliveries import NotAnnounced, NoWebhook
from worker.webhooks.targets import TargetRefused

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
OPENAI = "/v1/"  # paths whose clients expect errors of another form
CLIENT_GONE = 499  # nginx's code; no client reads the answer
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
    """An error in OpenAI's format."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """The body of every error answer below `OPENAI`."""

    error: OpenAIErrorItem


def can_answer(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: errors beyond those that follow from its parameters."""
    return {status: {} for status in statuses}


class Problem(HTTPException):
    """An error answer with a code; FastAPI passes an HTTPException on, but wraps others."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(status, detail)
        self.code = code


class Answer(NamedTuple):
    """How a domain error is answered; without `detail` the error's own message is shown."""

    status: int
    code: str
    detail: str | None = None
    passes: bool = False  # temporary: the answer has a `Retry-After` header


# The first match counts, so a subclass stands before its parent.
ANSWERS: dict[type[Exception], Answer] = {
    JobNotFound: Answer(404, "job_not_found"),
    DatasetNotFound: Answer(404, "dataset_not_found"),
    NotPrepared: Answer(409, "not_prepared"),
    UploadNotFound: Answer(404, "upload_not_found"),
    ModelNotFound: Answer(404, "model_not_found"),
    ObjectNotFound: Answer(404, "not_found", "There is no such file."),
    LinkRefused: Answer(403, "link_refused"),
    ImageError: Answer(422, "invalid_image"),
    ClassifierMissing: Answer(409, "no_classifier"),
    BackboneChanged: Answer(
        409,
        "classifier_outdated",
        "Its classifier was fitted with another release of this service: train it again.",
    ),
    InvalidReference: Answer(422, "invalid_model_reference"),
    UnknownCategory: Answer(422, "unknown_category"),
    AmbiguousSynonym: Answer(422, "ambiguous_synonym"),
    NoWebhook: Answer(404, "webhook_not_found"),
    NotAnnounced: Answer(409, "nothing_announced"),
    TargetRefused: Answer(422, "webhook_refused"),
    Unresolved: Answer(422, "webhook_refused"),
    IllegalMove: Answer(409, "job_has_ended"),
    VersionInUse: Answer(409, "version_in_use"),
    ModelInUse: Answer(409, "model_in_use"),
    AliasChanged: Answer(409, "alias_changed"),
    NothingToRollBack: Answer(409, "nothing_to_roll_back"),
    DatasetInUse: Answer(409, "dataset_in_use"),
    QueueFull: Answer(429, "queue_full"),
    TooManyImports: Answer(429, "too_many_uploads"),
    ImportAbandoned: Answer(CLIENT_GONE, "client_gone"),
    RequestInFlight: Answer(409, "idempotency_in_flight", passes=True),
    UploadTooLarge: Answer(413, "body_too_large"),
    CannotSign: Answer(
        409, "no_direct_uploads", "This service's object store takes no uploads: POST /datasets."
    ),
    KeyReused: Answer(422, "idempotency_key_reused"),
    WeightsDamaged: Answer(503, "model_unavailable", "This model's weights are damaged."),
    CheckpointError: Answer(503, "model_unavailable", "This model's files cannot be read."),
    OutOfMemoryError: Answer(503, "out_of_memory", "No memory is left for this; try fewer images."),
    RecordDamaged: Answer(
        503,
        "record_damaged",
        "What is stored under this name is damaged: restore it from a backup, or make it anew.",
    ),
    StorageFull: Answer(507, "storage_full", "The object store is full; nothing was kept."),
    StorageError: Answer(503, "storage_unavailable", "The object store does not answer."),
    RedisError: Answer(503, "redis_unavailable", "The job system does not answer."),
}


def problem_response(
    request: Request, answer: Answer, errors: Sequence[ErrorItem] = ()
) -> JSONResponse:
    """The answer as a response."""
    body = ProblemDetails(
        title=title_of(answer.status),
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
    """The problem in OpenAI's error format."""
    status = 400 if problem.status == 422 else problem.status
    parameter = problem.detail.partition(":")[0] if problem.status == 422 else ""
    error = OpenAIErrorItem(
        message=problem.detail,
        type="server_error" if status >= 500 else "invalid_request_error",
        param=parameter if parameter.isidentifier() else None,
        code=problem.code,
    )
    return JSONResponse(OpenAIError(error=error).model_dump(), status, headers)


def title_of(status: int) -> str:
    """The reason phrase of a status code."""
    return TITLES.get(status) or HTTPStatus(status).phrase
