"""Write timeout: clients that do not read their answers are disconnected.

An answer that the client does not read stays in this process's memory. uvloop sends what the
kernel's buffers take; the rest is unsent. While there is any, nothing more is written for the
client, which must take `LEAST_BYTES` of it, or all, within every `WINDOW_S`. A stream of events
that is idle has nothing unsent.
"""

import fcntl
import struct
import termios
import time
from asyncio import TimerHandle, Transport
from contextlib import suppress

from app.server.header_timeout import HeaderTimeoutProtocol

WINDOW_S = 20.0
LEAST_BYTES = 100_000  # 5 kB/s
LOOKS = 10  # at the progress, in each window
MOST_UNSENT_BYTES = 256 * 2**20  # of all connections of this process


class WriteTimeoutProtocol(HeaderTimeoutProtocol):
    """Disconnects a client that reads its answer too slowly, and the slowest ones of too many."""

    _window_began: float | None = None  # by `time.monotonic`; None while nothing is unsent
    _left_bytes = 0  # when the window began
    _next_look: TimerHandle | None = None

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers in this process's memory."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Have `pause_writing` called as soon as anything is unsent, and `resume_writing` after."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        """Begin the first window."""
        super().pause_writing()
        self._begin_window()
        self._look_later()
        self._relieve_memory()

    def resume_writing(self) -> None:
        """Stop: the client, or the kernel for it, has taken everything."""
        super().resume_writing()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        super().connection_lost(exc)
        self._end()

    def _begin_window(self) -> None:
        self._window_began, self._left_bytes = time.monotonic(), self._untaken_bytes()

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(WINDOW_S / LOOKS, self._look)

    def _look(self) -> None:
        assert self._window_began is not None
        if self._left_bytes - self._untaken_bytes() >= LEAST_BYTES:
            self._begin_window()
        elif time.monotonic() - self._window_began >= WINDOW_S:
            self._disconnect_slow_client()
            return
        self._look_later()

    def _untaken_bytes(self) -> int:
        """Bytes that the client has not acknowledged, those in the kernel's buffer included.

        Without these, a client would seem to take nothing until a third of that buffer is free.
        """
        waiting = bytes(struct.calcsize("i"))
        with suppress(OSError):  # macOS does not tell
            fileno = self.transport.get_extra_info("socket").fileno()
            waiting = fcntl.ioctl(fileno, termios.TIOCOUTQ, waiting)
        return self.unsent_bytes + int(struct.unpack("i", waiting)[0])

    def _relieve_memory(self) -> None:
        """While too much is unsent, disconnect the client that has taken too little for longest."""
        unsent = [
            each
            for each in self.connections
            if isinstance(each, WriteTimeoutProtocol) and each._window_began is not None
        ]
        excess = sum(each.unsent_bytes for each in unsent) - MOST_UNSENT_BYTES
        for each in sorted(unsent, key=lambda each: each._window_began or 0.0):
            if excess <= 0:
                return
            excess -= each.unsent_bytes
            each._disconnect_slow_client()

    def _disconnect_slow_client(self) -> None:
        self._end()
        self.transport.abort()

    def _end(self) -> None:
        self._window_began = None
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
