"""Sampling for one request: opens its engine, and waits for its images until the client leaves."""

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive

from app.errors import CLIENT_GONE, Problem
from app.generation.batching import AnyPendingImages, Batcher
from app.generation.engine_cache import EngineCache
from models.inference.engine import Engine
from worker.registry.model_versions import ModelCard

WATCH_AFTER_S = 0.25  # before watching for a disconnect; most requests are done by then


class Sampler:
    """Samples from any registered version."""

    def __init__(self, engines: EngineCache, batcher: Batcher) -> None:
        self.engines = engines
        self.batcher = batcher

    async def engine(self, card: ModelCard) -> Engine:
        """The engine of a version, loaded if necessary; raises as `EngineCache.open` does."""
        engine = self.engines.find(card)
        return await run_in_threadpool(self.engines.open, card) if engine is None else engine

    async def wait(self, pending: AnyPendingImages, receive: Receive) -> None:
        """Queue the images of a request and wait for them.

        `receive` reports a disconnect; the request's body must have been read before.

        Raises:
            Problem: 429, too many images wait already; 499, the client has disconnected, and images
                not computed yet are dropped.
        """
        self.batcher.submit(pending)
        watch = _DisconnectWatcher(pending, receive)
        timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, watch.begin)
        try:
            with self.batcher.metrics.waiting.track_inprogress():
                await pending.done
        except BaseException:
            self.batcher.cancel(pending)
            raise
        finally:
            timer.cancel()
            watch.end()
        self.batcher.metrics.waited(pending.queue_s, pending.encode_s)


class _DisconnectWatcher:
    """Fails a request's `done` when its client has disconnected."""

    def __init__(self, pending: AnyPendingImages, receive: Receive) -> None:
        self.pending = pending
        self.receive = receive
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start watching."""
        self._task = asyncio.ensure_future(self._gone())

    def end(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not self.pending.done.done():
            problem = Problem(CLIENT_GONE, "client_gone", "The client has closed the connection.")
            self.pending.done.set_exception(problem)
