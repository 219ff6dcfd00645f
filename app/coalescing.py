"""Write coalescing: the head of an answer and its body leave as one packet.

uvicorn writes them one after the other, and uvloop sends each at once: that is twice the work for
both ends, and a client may see the head alone.
"""

from asyncio import AbstractEventLoop, Transport

MOST_HELD = 64 * 1024  # bytes; what streams must not pile up


class CoalescingTransport:
    """What uvicorn writes to: holds what is written until the answer or the loop's turn ends."""

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes) -> None:
        """Send soon, and behind all that was written before."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Send what is held, if there is any."""
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            if not self._transport.is_closing():
                self._transport.writelines(held)

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it was closed by either side."""
        return self._transport.is_closing()
