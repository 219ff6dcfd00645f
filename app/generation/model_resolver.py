"""Model references (name, alias or version), resolved to cards through a short-lived cache.

Cloud storage takes tens of milliseconds to look up an alias. A change made by another process is
visible after at most `REMEMBERED_S`, a change made by this process at once.
"""

import asyncio
import time
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry

REMEMBERED_S = 0.5
REFRESH_BEFORE_EXPIRY_S = 0.25  # before expiry: references in use are refreshed in the background
MOST_REMEMBERED = 1000  # references


class _CacheEntry(NamedTuple):
    until: float
    card: ModelCard


class ModelResolver:
    """Resolves references to model cards; None refers to the default model."""

    def __init__(self, registry: Registry, default: str) -> None:
        self.registry = registry
        self.default = default
        self._known: dict[str, _CacheEntry] = {}
        self._lookups: dict[str, asyncio.Task[ModelCard]] = {}  # at most one for each reference

    async def find(self, reference: str | None) -> ModelCard:
        """The cached card of a reference, else the one that `resolve` returns."""
        card = self.recent(reference)
        if card is not None:
            return card
        # A cancelled caller must not cancel the lookup that others share.
        return await asyncio.shield(self._look_up(self._name(reference)))

    def recent(self, reference: str | None) -> ModelCard | None:
        """The cached card of a reference, else None; refreshes it shortly before it expires."""
        name = self._name(reference)
        known = self._known.get(name)
        left_s = 0.0 if known is None else known.until - time.monotonic()
        if known is None or left_s <= 0:
            return None
        if left_s < REFRESH_BEFORE_EXPIRY_S:
            self._look_up(name)
        return known.card

    def resolve(self, reference: str | None) -> ModelCard:
        """The card of a reference according to storage; caches it.

        Raises:
            InvalidReference: not of the form `name`, `name@alias` or `name:version`.
            ModelNotFound: no such model, alias or version.
        """
        name = self._name(reference)
        memory = self._known
        asked = time.monotonic()
        card = self.registry.resolve(name)
        if len(memory) >= MOST_REMEMBERED:
            memory.clear()
        memory[name] = _CacheEntry(asked + REMEMBERED_S, card)
        return card

    def forget(self) -> None:
        """Clear the cache, and drop lookups in progress, which may return the old state."""
        self._known, self._lookups = {}, {}

    def _look_up(self, name: str) -> asyncio.Task[ModelCard]:
        """Resolve a reference in a thread; concurrent callers share one lookup."""
        asking = self._lookups
        if name not in asking:
            task = asyncio.ensure_future(run_in_threadpool(self.resolve, name))
            asking[name] = task

            def done(task: asyncio.Task[ModelCard]) -> None:
                del asking[name]
                if not task.cancelled():
                    task.exception()  # marks it as retrieved: it may have no caller

            task.add_done_callback(done)
        return asking[name]

    def _name(self, reference: str | None) -> str:
        return self.default if reference is None else reference
