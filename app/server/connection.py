"""HTTP connection: hands plain requests to the fast path, and all others to the application.

A plain request is held until its body has arrived: at once, or a moment later if the client sends
it in a separate packet.
"""

from asyncio import TimerHandle
from functools import partial
from typing import cast

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.server.connection_limit import ConnectionLimitProtocol
from app.server.fast_path import Cancel, FastPath, Reply, may_be_plain

FAST_PATH = "fast_path"  # key in the lifespan's state of its `FastPath`, if it has one
BODY_S = 0.1  # to wait for a body; then the FastAPI route takes the request


class FastPathProtocol(ConnectionLimitProtocol):
    """Offers requests to the fast path; those that it declines go to the application."""

    _held: tuple[RequestResponseCycle, ASGI3Application] | None = None
    _body_timeout: TimerHandle | None = None  # of the held request
    _cancel: Cancel | None = None

    @property
    def fast_path(self) -> FastPath | None:
        """The application's fast path, if it has one."""
        return self.app_state.get(FAST_PATH)

    def on_message_complete(self) -> None:
        """Offer the held request, whose body is complete."""
        super().on_message_complete()
        if self._held is not None and not self._held[0].more_body:
            self._offer(*self._taken())

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel a request of the fast path; the application handles an incomplete one."""
        super().connection_lost(exc)
        if self._cancel is not None:
            self._cancel()
        self._fall_back("body")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        if not self._may_be_plain(cycle):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._held = cycle, app
            self._body_timeout = self.loop.call_later(BODY_S, self._fall_back, "body")
        else:
            self._offer(cycle, app)

    def _may_be_plain(self, cycle: RequestResponseCycle) -> bool:
        # Answers to a client that does not read would pile up; the application waits for it.
        if self.fast_path is None or self.flow.write_paused or self.is_surplus:
            return False
        return may_be_plain(cast(Scope, cycle.scope))

    def _fall_back(self, reason: str) -> None:
        """Hand the held request, if there is one, to the application."""
        if self._held is not None:
            assert self.fast_path is not None
            self.fast_path.metrics.fell_back(reason)
            super()._start_asgi_task(*self._taken())

    def _taken(self) -> tuple[RequestResponseCycle, ASGI3Application]:
        """Release the held request and return it."""
        assert self._held is not None
        assert self._body_timeout is not None
        self._body_timeout.cancel()
        held, self._held = self._held, None
        return held

    def _offer(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert self.fast_path is not None
        respond = partial(self._respond, cycle)
        self._cancel = self.fast_path.begin(cast(Scope, cycle.scope), bytes(cycle.body), respond)
        if self._cancel is None:
            super()._start_asgi_task(cycle, app)

    def _respond(self, cycle: RequestResponseCycle, reply: Reply) -> None:
        """Send a reply, as `RequestResponseCycle.send` does."""
        self._cancel = None
        if self.transport.is_closing():  # the client left while this callback was scheduled
            return
        lines = [b"%s: %s\r\n" % pair for pair in (*cycle.default_headers, *reply.headers)]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        cycle.response_started = cycle.response_complete = True
        # One write: uvloop sends each at once, and two packets are twice the work for both ends.
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", reply.content]))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
