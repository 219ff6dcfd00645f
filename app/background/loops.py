"""Background loops of an API process, supervised: a fault ends none of them for good.

While a loop is down, `/health/ready` names it. It is up again once it has made a whole round.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from app.metrics import Metrics

logger = logging.getLogger(__name__)

RESTART_S = 10.0  # pause before a loop that has failed is started again

RoundDone = Callable[[], object]  # a loop calls it after each of its rounds
Loop = Callable[[RoundDone], Awaitable[None]]


class BackgroundLoops:
    """The loops of one process, and which of them are down."""

    def __init__(self, metrics: Metrics, restart_s: float = RESTART_S) -> None:
        self.metrics = metrics
        self.restart_s = restart_s
        self.down: set[str] = set()

    async def keep(self, name: str, run: Loop) -> None:
        """Run a loop until cancelled; after an error that it does not expect, start it again."""
        while True:
            try:
                await run(partial(self.down.discard, name))
            except Exception:
                self.down.add(name)
                self.metrics.loop_failures.labels(name).inc()
                logger.exception("the loop %r failed; it starts again after a pause", name)
            await anyio.sleep(self.restart_s)
