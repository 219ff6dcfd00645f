"""What a reference to a model means, remembered for a moment.

A store in the cloud takes tens of milliseconds to say where an alias points. What another process
changes is followed within `REMEMBERED_S`; what this one changes, at once.
"""

import asyncio
import time
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from worker.model_versions import ModelCard
from worker.registry import Registry

REMEMBERED_S = 0.5
ASK_AGAIN_S = 0.25  # before that ends: while a reference is used, nobody waits for an answer
MOST_REMEMBERED = 1000  # references


class _Known(NamedTuple):
    until: float
    card: ModelCard


class Resolver:
    """Finds the versions that references mean; None means the default model."""

    def __init__(self, registry: Registry, default: str) -> None:
        self.registry = registry
        self.default = default
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[ModelCard]] = {}  # at most one for each reference

    async def find(self, reference: str | None) -> ModelCard:
        """The version as it was a moment ago, or as `resolve` says."""
        card = self.recent(reference)
        if card is not None:
            return card
        # Who leaves does not take it from others.
        return await asyncio.shield(self._ask(self._name(reference)))

    def recent(self, reference: str | None) -> ModelCard | None:
        """The version as it was a moment ago; None where that is not known."""
        name = self._name(reference)
        known = self._known.get(name)
        left_s = 0.0 if known is None else known.until - time.monotonic()
        if known is None or left_s <= 0:
            return None
        if left_s < ASK_AGAIN_S:
            self._ask(name)
        return known.card

    def resolve(self, reference: str | None) -> ModelCard:
        """The version that storage names now.

        Raises:
            InvalidReference: not of the form `name`, `name@alias` or `name:version`.
            ModelNotFound: it means nothing here.
        """
        name = self._name(reference)
        memory = self._known
        asked = time.monotonic()
        card = self.registry.resolve(name)
        if len(memory) >= MOST_REMEMBERED:
            memory.clear()
        memory[name] = _Known(asked + REMEMBERED_S, card)
        return card

    def forget(self) -> None:
        """Something has changed, and what is being asked for may have been answered before that."""
        self._known, self._asking = {}, {}

    def _ask(self, name: str) -> asyncio.Task[ModelCard]:
        """Resolve a reference in a thread, once for all who want to know."""
        asking = self._asking
        if name not in asking:
            task = asyncio.ensure_future(run_in_threadpool(self.resolve, name))
            asking[name] = task

            def done(task: asyncio.Task[ModelCard]) -> None:
                del asking[name]
                if not task.cancelled():
                    task.exception()  # nobody need have waited for it

            task.add_done_callback(done)
        return asking[name]

    def _name(self, reference: str | None) -> str:
        return self.default if reference is None else reference
