"""Connection limit: what comes beyond it is told so, and leaves open files for all others.

A process without a file descriptor left can accept no connection, open no file and reach no store.
"""

from asyncio import Transport

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.middleware.surplus import SURPLUS
from app.server.write_timeout import WriteTimeoutProtocol

CONNECTION_LIMIT = "connection_limit"  # key in the lifespan's state; without it there is no limit
MOST_SURPLUS = 32  # connections beyond the limit, each for one answer; further ones are closed
SURPLUS_HEADERS_S = 1.0


class ConnectionLimitProtocol(WriteTimeoutProtocol):
    """Marks the requests of connections beyond the limit, for `SurplusCheck` to refuse."""

    is_surplus = False

    @property
    def headers_s(self) -> float:
        """Time for a request's headers, less on a surplus connection, to make room for others."""
        return SURPLUS_HEADERS_S if self.is_surplus else super().headers_s

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Count the connection; close it if there is not even room to refuse its request."""
        excess = 1 + len(self.connections) - self.app_state.get(CONNECTION_LIMIT, float("inf"))
        self.is_surplus = excess > 0
        super().connection_made(transport)
        if excess > MOST_SURPLUS:
            transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.is_surplus:
            cycle.keep_alive = False
            cycle.scope["state"][SURPLUS] = True
        super()._start_asgi_task(cycle, app)
