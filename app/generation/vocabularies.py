"""Vocabularies of model versions, through a short-lived cache of the synonyms in storage.

As with model references: what another process changes is visible after at most `REMEMBERED_S`.
"""

import time
from functools import lru_cache
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from app.generation.model_resolver import MOST_REMEMBERED, REMEMBERED_S
from app.generation.prompts import Vocabulary
from worker.registry.model_versions import ModelCard
from worker.registry.synonyms import Synonyms

MOST_BUILT = 16  # vocabularies of different words


class _CacheEntry(NamedTuple):
    until: float
    vocabulary: Vocabulary


class Vocabularies:
    """Finds the vocabulary of a model version."""

    def __init__(self, synonyms: Synonyms) -> None:
        self.synonyms = synonyms
        self._known: dict[tuple[str, int], _CacheEntry] = {}

    async def find(self, card: ModelCard) -> Vocabulary:
        """What the categories of a version may be called."""
        known = self._known.get((card.name, card.version))
        if known is None or known.until <= time.monotonic():
            known = await run_in_threadpool(self._load, card)
        return known.vocabulary

    def forget(self) -> None:
        """Clear the cache."""
        self._known = {}

    def _load(self, card: ModelCard) -> _CacheEntry:
        memory = self._known
        until = time.monotonic() + REMEMBERED_S
        synonyms = self.synonyms.read(card.name)
        if len(memory) >= MOST_REMEMBERED:
            memory.clear()
        words = tuple((category, tuple(phrases)) for category, phrases in synonyms.items())
        entry = _CacheEntry(until, _built(tuple(card.categories), words))
        memory[(card.name, card.version)] = entry
        return entry


@lru_cache(MOST_BUILT)
def _built(
    categories: tuple[str, ...], synonyms: tuple[tuple[str, tuple[str, ...]], ...]
) -> Vocabulary:
    """The vocabulary of these words: a large one takes a quarter of a second to build."""
    return Vocabulary(categories, dict(synonyms))
