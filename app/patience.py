"""For how long a connection may take to say what it wants, and what a server's end is to it.

uvicorn closes connections that are idle between two requests, but waits for ever for the first
byte of one, and for the rest of headers that trickle in (the "slowloris" attack). When it ends, it
waits for answers that are under way; to those that have no end of their own it says nothing.
"""

from asyncio import TimerHandle, Transport

from app.wire import StrictProtocol

HEADERS_S = 10.0
ENDING = "ending"  # where the lifespan leaves an `asyncio.Event` to be set then, if it does


class ImpatientProtocol(StrictProtocol):
    """Closes a connection whose next request's headers have not all come in time."""

    _limit: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait no longer where the headers are whole, and no longer than before where not."""
        super().data_received(data)
        if self._limit is None and self.waits_for_a_head:
            self._wait()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._forget()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends."""
        if ENDING in self.app_state:
            self.app_state[ENDING].set()
        super().shutdown()

    def _wait(self) -> None:
        self._limit = self.loop.call_later(HEADERS_S, self._give_up)

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
