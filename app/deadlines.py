"""Deadlines for what nearly always ends long before them, all on one timer.

A timer for each costs the event loop more than reading a request does. These come late by up to
`SWEEP_S`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

SWEEP_S = 0.1


@dataclass(eq=False, slots=True)
class Deadline:
    """When something is to be called, by the event loop's clock."""

    due: float
    call: Callable[[], None]


class Deadlines:
    """Those of one event loop at a time; no timer runs while there are none.

    What an earlier loop has left is not called: it belongs to what ended with that loop.
    """

    def __init__(self) -> None:
        self._pending: set[Deadline] = set()
        self._swept_by: asyncio.AbstractEventLoop | None = None

    def set(self, after_s: float, call: Callable[[], None]) -> Deadline:
        """Have `call` called unless this is lifted before."""
        loop = asyncio.get_running_loop()
        if self._swept_by is not loop:
            self._swept_by = loop
            self._pending.clear()
            loop.call_later(SWEEP_S, self._sweep, loop)
        deadline = Deadline(loop.time() + after_s, call)
        self._pending.add(deadline)
        return deadline

    def lift(self, deadline: Deadline) -> None:
        """It was met; or called, which is no error."""
        self._pending.discard(deadline)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._pending:
            self._swept_by = None
            return
        loop.call_later(SWEEP_S, self._sweep, loop)  # first: what is called may fail
        now = loop.time()
        for deadline in [each for each in self._pending if each.due <= now]:
            self._pending.discard(deadline)
            deadline.call()
