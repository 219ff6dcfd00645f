"""Exception handlers: every error of the application to its answer, as `app.errors` maps it."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.allowed_methods import is_exact, methods_of
from app.errors import ANSWERS, Answer, ErrorItem, Problem, problem_response, title_of
from models.data.archive import DatasetError
from worker.storage import StorageFull, is_full

logger = logging.getLogger(__name__)

MAX_LISTED_ERRORS = 20
UNPROCESSABLE_ARCHIVE = 422
TOO_LARGE_CODES = {"too_large", "too_many_members"}


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    for kind in ANSWERS:
        app.add_exception_handler(kind, _domain_error)
    app.add_exception_handler(DatasetError, _dataset_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)


def error_response(request: Request, error: Exception) -> JSONResponse:
    """The answer to any error, for code outside FastAPI; logs an unexpected one."""
    if isinstance(error, HTTPException):
        return _answer_http(request, error)
    if isinstance(error, tuple(ANSWERS)):
        return _answer_domain(request, error)
    logger.error("request %s failed", request.scope["state"]["request_id"], exc_info=error)
    return _answer_fault(request)


async def _domain_error(request: Request, error: Exception) -> JSONResponse:
    return _answer_domain(request, error)


def _answer_domain(request: Request, error: Exception) -> JSONResponse:
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
        if is_exact(request.app, request.scope["path"]):
            return _wrong_method(request, methods_of(request.app, request.scope["path"]))
        # A malformed id is as unknown as any other: 404. PUT creates what it names: 422.
        return problem_response(request, Answer(404, "not_found", "Nothing has this name or id."))
    field = ".".join(str(part) for part in first.loc[1:])
    answer = Answer(422, "invalid_request", f"{field}: {first.msg}" if field else first.msg)
    return problem_response(request, answer, items)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer_http(request, error)


def _answer_http(request: Request, error: HTTPException) -> JSONResponse:
    """The answer to a Problem, or to an error that the framework raised."""
    if error.status_code == 405 and (methods := methods_of(request.app, request.scope["path"])):
        return _wrong_method(request, methods)
    if is_full(error.__cause__):  # FastAPI blames the client for any error in reading a form
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
    return _answer_fault(request)


def _answer_fault(request: Request) -> JSONResponse:
    detail = "The service failed; its log has the cause under this request id."
    response = problem_response(request, Answer(500, "internal_error", detail))
    # Starlette answers unhandled errors outside all middleware, so also outside RequestId.
    response.headers["X-Request-Id"] = str(request.scope["state"]["request_id"])
    return response


def _code(status: int) -> str:
    return title_of(status).lower().replace(" ", "_").replace("-", "_")


def _item(raw: dict[str, Any]) -> ErrorItem:
    # The offending input itself is not echoed: it may be long, or a secret.
    message = str(raw["msg"]).removeprefix("Value error, ")
    return ErrorItem(loc=list(raw["loc"]), msg=message, type=str(raw["type"]))
