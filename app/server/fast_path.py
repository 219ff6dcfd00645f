"""Fast path: answers plain `POST /generate` below ASGI and FastAPI.

Those take longer than a small image. It serves 1.4 times the requests a second of the FastAPI route
(docs/benchmarks.md), by the same functions: host rules, key, body, response format, batching,
rendering, access log. A request that it does not support goes to the application before any work is
done, and is counted by reason (`vitrine_fast_path_fallbacks_total`). A request that it has begun it
also answers, errors included.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Scope

from app.auth import find_key, sent_key
from app.error_handlers import error_response
from app.errors import CLIENT_GONE, Problem
from app.generation.generate_images import PendingGeneration
from app.generation.responses import ZIP_TYPE, encode_body, form_of, with_output_format
from app.middleware.access_log import RequestSummary, record_request
from app.middleware.body import check_headers, check_json
from app.middleware.headers import RawHeaders, first_headers, text_of
from app.middleware.request_id import id_of
from app.schemas import GenerateRequest
from app.services import Services
from worker import logs
from worker.generation.bulk_generation import rendering_of

logger = logging.getLogger(__name__)

PATH = "/generate"
SCOPE = "generate"  # required of an API key
UNUSUAL = (b"prefer", b"idempotency-key")  # headers that only the FastAPI route supports
MAX_BODY_BYTES = 16 * 1024  # of a plain request; a larger one is parsed only by the FastAPI route


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes


Respond = Callable[[Reply], None]
Cancel = Callable[[], None]  # to be called when the client has disconnected


@dataclass(frozen=True, kw_only=True)
class _PlainRequest:
    scope: Scope
    request: GenerateRequest
    form: str
    pending: PendingGeneration
    request_id: str
    started: float


class _Fallback(Exception):
    """The FastAPI route must take the request; the reason is a label of the metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def may_be_plain(scope: Scope) -> bool:
    """Whether a request's method and target are those of a plain request."""
    return scope["method"] == "POST" and scope["path"] == PATH and not scope["query_string"]


class FastPath:
    """Answers plain requests."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.batcher = services.sampler.batcher
        self.metrics = services.metrics

    def begin(self, scope: Scope, body: bytes, respond: Respond) -> Cancel | None:
        """Begin to answer a request, and call `respond` later; None hands it to the FastAPI route.

        `scope` must have passed `may_be_plain`.
        """
        try:
            plain = self._parse(scope, body)
        except _Fallback as fallback:
            self.metrics.fell_back(fallback.reason)
            return None
        except Exception:  # nothing is submitted yet: the FastAPI route can still answer
            logger.exception("the fast path failed before it had begun")
            self.metrics.fell_back("fault")
            return None
        images = plain.pending.images
        try:
            self.batcher.submit(images)
        except Problem as problem:
            images.done.set_exception(problem)
        self.metrics.waiting.inc()
        context = copy_context()
        context.run(logs.request_id.set, plain.request_id)
        images.done.add_done_callback(partial(self._end, plain, respond), context=context)
        return partial(self._cancel, plain)

    def _parse(self, scope: Scope, body: bytes) -> _PlainRequest:
        """Check a request as the FastAPI route does; nothing is submitted yet.

        Raises:
            _Fallback: the request is not plain, or is invalid.
        """
        started, services = time.perf_counter(), self.services
        headers = first_headers(scope)
        if any(name in headers for name in UNUSUAL):
            raise _Fallback("header")
        if services.host_rules.refusal(scope) is not None:
            raise _Fallback("host")
        if not self._is_authorized(headers):
            raise _Fallback("key")
        try:
            request = self._read_body(headers, body)
            form = form_of(text_of(headers, b"accept", "*/*"), request, later=False)
            card = services.resolver.recent(request.model)
            engine = None if card is None else services.sampler.engines.find(card)
            if card is None or engine is None:
                raise _Fallback("model")  # one that has to be looked up, or loaded
            if request.min_category_probability is not None:
                raise _Fallback("filter")
            if form == ZIP_TYPE or request.response_format != "b64_json":
                raise _Fallback("form")
            request = with_output_format(request, card, form)
            pending = PendingGeneration.of(request, card, rendering_of(request), engine)
        except (Problem, ValidationError) as error:
            raise _Fallback("invalid") from error
        request_id = id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        return _PlainRequest(
            scope=scope,
            request=request,
            form=form,
            pending=pending,
            request_id=request_id,
            started=started,
        )

    def _read_body(self, headers: RawHeaders, body: bytes) -> GenerateRequest:
        """The request in the body; raises _Fallback, Problem or ValidationError."""
        limit = min(MAX_BODY_BYTES, self.services.settings.max_body_bytes)
        if len(body) > limit:
            raise _Fallback("large")
        check_headers(headers, limit, upload=False)
        check_json(body, text_of(headers, b"content-type"))
        return GenerateRequest.model_validate_json(body)

    def _is_authorized(self, headers: RawHeaders) -> bool:
        """Whether no key is required, or the request has one with `SCOPE`."""
        if not self.services.api_keys:
            return True
        sent = sent_key(text_of(headers, b"authorization"))
        key = None if sent is None else find_key(self.services.api_keys, sent)
        return key is not None and SCOPE in key.scopes

    def _cancel(self, plain: _PlainRequest) -> None:
        images = plain.pending.images
        images.done.cancel()
        self.batcher.cancel(images)

    def _end(self, plain: _PlainRequest, respond: Respond, done: asyncio.Future[None]) -> None:
        """Answer, unless the client has disconnected, and record the request."""
        self.metrics.waiting.dec()
        status, size_bytes = CLIENT_GONE, 0
        if not done.cancelled():
            reply = self._reply(plain, done)
            respond(reply)
            status, size_bytes = reply.status, len(reply.content)
        summary = RequestSummary("POST", PATH, status, plain.started, size_bytes)
        record_request(self.metrics, summary)

    def _reply(self, plain: _PlainRequest, done: asyncio.Future[None]) -> Reply:
        try:
            done.result()
            content = encode_body(plain.request, plain.pending.result(), plain.form)
        except Exception as error:  # noqa: BLE001 # as FastAPI does: every error has its answer
            response = error_response(Request(plain.scope), error)
            status, content = response.status_code, bytes(response.body)
            headers = [pair for pair in response.raw_headers if pair[0] != b"x-request-id"]
        else:
            images = plain.pending.images
            self.metrics.waited(images.queue_s, images.encode_s)
            status = 200
            headers = [
                (b"content-length", b"%d" % len(content)),
                (b"content-type", plain.form.encode()),
            ]
        return Reply(status, [*headers, (b"x-request-id", plain.request_id.encode())], content)
