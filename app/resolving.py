"""What a reference to a model means, remembered for a moment.

A store in the cloud takes tens of milliseconds to say where an alias points. What another process
changes is followed within `REMEMBERED_S`; what this one changes, at once.
"""

import time

from starlette.concurrency import run_in_threadpool

from worker.model_versions import ModelCard
from worker.registry import Registry

REMEMBERED_S = 0.5
MOST_REMEMBERED = 1000  # references


class Resolver:
    """Finds the versions that references mean; None means the default model."""

    def __init__(self, registry: Registry, default: str) -> None:
        self.registry = registry
        self.default = default
        self._known: dict[str, tuple[float, ModelCard]] = {}  # with until when

    async def find(self, reference: str | None) -> ModelCard:
        """The version as it was a moment ago, or as `resolve` says."""
        until, card = self._known.get(self._name(reference), (0.0, None))
        if card is not None and time.monotonic() < until:
            return card
        return await run_in_threadpool(self.resolve, reference)

    def resolve(self, reference: str | None) -> ModelCard:
        """The version that storage names now.

        Raises:
            InvalidReference: not of the form `name`, `name@alias` or `name:version`.
            ModelNotFound: it means nothing here.
        """
        name = self._name(reference)
        asked = time.monotonic()
        card = self.registry.resolve(name)
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[name] = asked + REMEMBERED_S, card
        return card

    def forget(self) -> None:
        """Something has changed."""
        self._known.clear()

    def _name(self, reference: str | None) -> str:
        return self.default if reference is None else reference
