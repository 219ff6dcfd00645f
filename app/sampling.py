"""Images for one request: its version opened, its images waited for as long as the client does."""

import asyncio
from collections.abc import Sequence

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from app.batching import Batcher, Finish, Order
from app.engines import Engines
from app.errors import CLIENT_GONE, Problem
from worker.model_versions import ModelCard

PATIENT_S = 0.05  # most requests are done by then, and need not be watched


class Sampler:
    """Samples from any registered version."""

    def __init__(self, engines: Engines, batcher: Batcher) -> None:
        self.engines = engines
        self.batcher = batcher

    async def sample(
        self,
        card: ModelCard,
        images: Sequence[tuple[int, int]],
        truncation: float,
        finish: Finish,
        client: Request,
    ) -> Order:
        """All `images` of one version, each a seed and a category, finished.

        Raises:
            Problem: 429, too many images wait already; 499, the client has left, and what was not
                computed yet is not.
            WeightsDamaged, CheckpointError: as `Engines.open`.
        """
        engine = self.engines.find(card)
        if engine is None:
            engine = await run_in_threadpool(self.engines.open, card)
        order = Order(
            model=card.name,
            version=card.version,
            engine=engine,
            seeds=[seed for seed, _ in images],
            labels=[label for _, label in images],
            truncation=truncation,
            finish=finish,
        )
        waiting = self.batcher.metrics.waiting
        self.batcher.submit(order)
        with waiting.track_inprogress():
            await self._done(order, client)
        self.batcher.metrics.waited(order.queue_s, order.encode_s)
        return order

    async def _done(self, order: Order, client: Request) -> None:
        """Wait for an order, while its client does."""
        try:
            await asyncio.wait({order.done}, timeout=PATIENT_S)
            if not order.done.done():
                gone = asyncio.ensure_future(_gone(client))
                await asyncio.wait({order.done, gone}, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
            if not order.done.done():
                raise Problem(CLIENT_GONE, "client_gone", "Nobody waits for this any more.")
            await order.done
        finally:
            if not order.done.done():
                self.batcher.cancel(order)


async def _gone(client: Request) -> None:
    """Until the client has left; its body was read before."""
    while (await client.receive())["type"] != "http.disconnect":
        pass
