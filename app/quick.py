"""The quick answer: plain `POST /generate` without ASGI, which takes longer than a small image.

What is answered here is as the usual way would answer it. Whatever is not plain, is wrong or fails
is left to that way, so that it alone knows of errors and of all else that a client may ask for.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

from starlette.datastructures import State
from starlette.types import Scope

from app.answers import ZIP_TYPE, form_of, packed, suited
from app.auth import find_key, sent_key
from app.batching import AnyOrder, Batcher
from app.body import check_headers, check_json
from app.errors import CLIENT_GONE
from app.generation import Making
from app.headers import RawHeaders, first_headers, text_of
from app.metrics import Metrics
from app.observe import Seen, tell
from app.rate_limits import Limiter
from app.request_id import id_of
from app.schemas import GenerateRequest
from worker import logs
from worker.generating import rendering_of

PATH = "/generate"
SCOPE = "generate"  # that a key needs
UNUSUAL = (b"prefer", b"idempotency-key")  # headers


@dataclass(frozen=True)
class Reply:
    """An answer of status 200."""

    headers: list[tuple[bytes, bytes]]
    content: bytes


Respond = Callable[[Reply | None], None]  # None: the request is to take the usual way after all
Leave = Callable[[], None]  # the client has


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """A plain request, and what it is given."""

    request: GenerateRequest
    form: str
    making: Making
    request_id: str
    started: float
    limits: dict[str, str] = field(default_factory=dict)  # headers that tell of the rate limit


class _OverLimitError(Exception):
    """The client has asked too often."""


def may_be_plain(scope: Scope) -> bool:
    """Whether a request's first line is that of a plain one."""
    return scope["method"] == "POST" and scope["path"] == PATH and not scope["query_string"]


class Quick:
    """Answers what is plain."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.batcher: Batcher = state.sampler.batcher
        self.metrics: Metrics = state.metrics
        self.limiter: Limiter | None = state.limiter
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, scope: Scope, body: bytes, respond: Respond) -> Leave | None:
        """Begin to answer a request, and call `respond` later; None where it is not plain.

        `scope` is one that `may_be_plain`.
        """
        try:
            plain = self._plain(scope, body)
            if plain is None:
                return None
            if self.limiter is None:
                self.batcher.submit(plain.making.order)
            else:
                task = asyncio.ensure_future(self._submit_within(self.limiter, scope, plain))
                self._tasks.add(task)  # else nothing would keep it
                task.add_done_callback(self._tasks.discard)
        except Exception:  # noqa: BLE001 # the usual way meets it too, and knows how to tell
            return None
        self.metrics.waiting.inc()
        context = copy_context()
        context.run(logs.request_id.set, plain.request_id)
        done = plain.making.order.done
        done.add_done_callback(partial(self._end, plain, respond), context=context)
        return partial(self._leave, plain.making.order)

    async def _submit_within(self, limiter: Limiter, scope: Scope, plain: _Plain) -> None:
        """Submit an order where the limit lets it pass; where not, the usual way refuses it."""
        order = plain.making.order
        try:
            asked = await limiter.ask(scope)
            if order.done.done():  # its client has left
                return
            if asked is not None:
                if not asked.allowed:
                    raise _OverLimitError
                plain.limits.update(asked.headers)
            self.batcher.submit(order)
        except Exception as error:  # noqa: BLE001 # as in `begin`
            if not order.done.done():
                order.done.set_exception(error)

    def _plain(self, scope: Scope, body: bytes) -> _Plain | None:
        """A plain request, its order not yet submitted; raises where something is wrong with it."""
        started = time.perf_counter()
        headers = first_headers(scope)
        if any(name in headers for name in UNUSUAL):
            return None
        if self.state.host_rules.refusal(scope) is not None or not self._may(headers):
            return None
        limit = self.state.settings.max_body_bytes
        check_headers(headers, limit, upload=False)
        if len(body) > limit:
            return None
        check_json(body, text_of(headers, b"content-type"))
        request = GenerateRequest.model_validate_json(body)
        card = self.state.resolver.recent(request.model)
        engine = None if card is None else self.state.sampler.engines.find(card)
        form = form_of(text_of(headers, b"accept", "*/*"), request, later=False)
        if engine is None or form == ZIP_TYPE or request.response_format != "b64_json":
            return None
        request = suited(request, card, form)
        return _Plain(
            request=request,
            form=form,
            making=Making.of(request, card, rendering_of(request), engine),
            request_id=id_of(headers),
            started=started,
        )

    def _may(self, headers: RawHeaders) -> bool:
        """Whether the client needs no key, or has sent one of this scope."""
        if not self.state.api_keys:
            return True
        sent = sent_key(text_of(headers, b"authorization"))
        key = None if sent is None else find_key(self.state.api_keys, sent)
        return key is not None and SCOPE in key.scopes

    def _leave(self, order: AnyOrder) -> None:
        order.done.cancel()
        self.batcher.cancel(order)

    def _end(self, plain: _Plain, respond: Respond, done: asyncio.Future[None]) -> None:
        """Answer, where there is somebody to answer to and something to say."""
        self.metrics.waiting.dec()
        if done.cancelled():
            tell(self.metrics, Seen("POST", PATH, CLIENT_GONE, plain.started, 0))
            return
        try:
            done.result()
            content = packed(plain.request, plain.making.result(), plain.form)
        except Exception:  # noqa: BLE001 # so the usual way is to try it, and to tell
            respond(None)
            return
        self.metrics.waited(plain.making.order.queue_s, plain.making.order.encode_s)
        told = {
            "content-length": str(len(content)),
            "content-type": plain.form,
            "x-request-id": plain.request_id,
            **plain.limits,
        }
        headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        respond(Reply(headers, content))
        tell(self.metrics, Seen("POST", PATH, 200, plain.started, len(content)))
