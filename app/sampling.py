"""Images for one request: its version opened, its images waited for as long as the client does."""

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive

from app.batching import AnyOrder, Batcher
from app.deadlines import Deadlines
from app.engines import Engines
from app.errors import CLIENT_GONE, Problem
from models.engine import Engine
from worker.model_versions import ModelCard

PATIENT_S = 0.25  # most requests are done by then, and need not be watched


class Sampler:
    """Samples from any registered version."""

    def __init__(self, engines: Engines, batcher: Batcher) -> None:
        self.engines = engines
        self.batcher = batcher
        self._deadlines = Deadlines()

    async def engine(self, card: ModelCard) -> Engine:
        """A version, loaded where need be; raises as `Engines.open` does."""
        engine = self.engines.find(card)
        return await run_in_threadpool(self.engines.open, card) if engine is None else engine

    async def wait(self, order: AnyOrder, receive: Receive) -> None:
        """Have the images of an order made.

        `receive` tells when the client has left; its body was read before.

        Raises:
            Problem: 429, too many images wait already; 499, the client has left, and what was not
                computed yet is not.
        """
        self.batcher.submit(order)
        watch = _Watch(order, receive)
        overdue = self._deadlines.set(PATIENT_S, watch.begin)
        try:
            with self.batcher.metrics.waiting.track_inprogress():
                await order.done
        except BaseException:
            self.batcher.cancel(order)
            raise
        finally:
            self._deadlines.lift(overdue)
            watch.end()
        self.batcher.metrics.waited(order.queue_s, order.encode_s)


class _Watch:
    """Ends an order when its client has left."""

    def __init__(self, order: AnyOrder, receive: Receive) -> None:
        self.order = order
        self.receive = receive
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        self._task = asyncio.ensure_future(self._gone())

    def end(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.order.done.done():
            problem = Problem(CLIENT_GONE, "client_gone", "Nobody waits for this any more.")
            self.order.done.set_exception(problem)
