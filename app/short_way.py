"""Past ASGI: requests that are answered where the connection has read them.

A request is held back until its body has come, which is at once or, from clients that send it
separately, a moment later.
"""

from functools import partial
from typing import cast

from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.deadlines import Deadline, Deadlines
from app.patience import ImpatientProtocol
from app.quick import Leave, Quick, Reply, may_be_plain

STATE = "quick"  # where the application's lifespan leaves its `Quick`, if it has one
BODY_S = 0.1  # for which a body may keep a request from the usual way

_bodies = Deadlines()


class ShortWayProtocol(ImpatientProtocol):
    """Offers requests to the quick answer, and those that it does not take to the application."""

    _held: tuple[RequestResponseCycle, ASGI3Application] | None = None
    _overdue: Deadline | None = None  # for the body of what is held
    _leave: Leave | None = None

    @property
    def quick(self) -> Quick | None:
        """What answers quickly, if anything does."""
        return self.app_state.get(STATE)

    def on_message_complete(self) -> None:
        """Offer what was held until now."""
        super().on_message_complete()
        if self._held is not None and not self._held[0].more_body:
            self._offer(*self._taken())

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for an answer; the usual way knows what to make of half a request."""
        super().connection_lost(exc)
        if self._leave is not None:
            self._leave()
        self._let_go()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        if not self._may_be_quick(cycle):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._held = cycle, app
            self._overdue = _bodies.set(BODY_S, self._let_go)
        else:
            self._offer(cycle, app)

    def _may_be_quick(self, cycle: RequestResponseCycle) -> bool:
        # Where a client does not read, answers would pile up; the usual way waits for it.
        if self.quick is None or self.flow.write_paused:
            return False
        return may_be_plain(cast(Scope, cycle.scope))

    def _let_go(self) -> None:
        if self._held is not None:
            super()._start_asgi_task(*self._taken())

    def _taken(self) -> tuple[RequestResponseCycle, ASGI3Application]:
        """What is held, which is no longer."""
        assert self._held is not None
        assert self._overdue is not None
        _bodies.lift(self._overdue)
        held, self._held = self._held, None
        return held

    def _offer(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert self.quick is not None
        respond = partial(self._respond, cycle, app)
        self._leave = self.quick.begin(cast(Scope, cycle.scope), bytes(cycle.body), respond)
        if self._leave is None:
            super()._start_asgi_task(cycle, app)

    def _respond(
        self, cycle: RequestResponseCycle, app: ASGI3Application, reply: Reply | None
    ) -> None:
        """Send a reply, as `RequestResponseCycle.send` does; without one, take the usual way."""
        self._leave = None
        if reply is None:
            super()._start_asgi_task(cycle, app)
            return
        lines = [b"%s: %s\r\n" % pair for pair in (*cycle.default_headers, *reply.headers)]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join([STATUS_LINE[200], *lines, b"\r\n"]))
        self.transport.write(reply.content)
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
