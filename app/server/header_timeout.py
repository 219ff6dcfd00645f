"""Header timeout against slow clients (slowloris), and a shutdown signal for endless answers.

uvicorn closes connections that are idle between two requests, but waits without limit for the first
byte of a connection, and for the rest of headers that trickle in. At shutdown it waits for answers
in progress, but gives no signal to those that do not end by themselves.
"""

from asyncio import TimerHandle, Transport

from app.server.strict_protocol import StrictProtocol

HEADERS_S = 10.0
SHUTDOWN = "shutdown"  # key in the lifespan's state of an optional `asyncio.Event`, set at shutdown


class HeaderTimeoutProtocol(StrictProtocol):
    """Closes a connection whose next request's headers are not complete within `HEADERS_S`."""

    _limit: TimerHandle | None = None

    @property
    def headers_s(self) -> float:
        """Time for a request's headers."""
        return HEADERS_S

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Start the timer when a head may begin; more data does not restart it."""
        super().data_received(data)
        if self._limit is None and self.waits_for_a_head:
            self._wait()

    def on_headers_complete(self) -> None:
        """Stop the timer."""
        self._forget()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Set the shutdown event, then shut down as uvicorn does."""
        if SHUTDOWN in self.app_state:
            self.app_state[SHUTDOWN].set()
        super().shutdown()

    def _wait(self) -> None:
        self._limit = self.loop.call_later(self.headers_s, self._give_up)

    def _give_up(self) -> None:
        """Close, but not while an earlier request of the connection is still being answered."""
        self._limit = None
        if self.answering:
            self._wait()
        else:
            self.transport.close()

    def _forget(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
