"""LRU cache of inference engines, bounded by an estimate of their memory."""

import logging
import threading
import time
from collections import OrderedDict

import anyio
import anyio.to_thread

from app.background.loops import RoundDone
from models.checkpoint import CheckpointError, load_model
from models.inference.engine import Engine, open_engine
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry, WeightsDamaged
from worker.storage import StorageError

logger = logging.getLogger(__name__)

QUARANTINE_S = 30.0  # for which weights that cannot be used are not read again
MEMORY_FACTOR = 8  # an engine's memory over its stored bytes: `benchmarks.engines`

FORGET_EVERY_S = 60.0  # engines of versions that another process has deleted

Key = tuple[str, int]  # a model's name and version


class EngineCache:
    """Engines by model version; evicts the least recently used."""

    def __init__(self, registry: Registry, max_bytes: int) -> None:
        self.registry = registry
        self.max_bytes = max_bytes
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # guards `_warm`; never held for long
        self._warm: OrderedDict[Key, tuple[Engine, int]] = OrderedDict()  # with its size in bytes
        self._bad: dict[Key, tuple[float, Exception]] = {}  # when to retry, and the error

    def find(self, card: ModelCard) -> Engine | None:
        """The engine of a version if it is in memory, else None; never loads."""
        key = _key(card)
        with self._lock:
            if key not in self._warm:
                return None
            self._warm.move_to_end(key)
            return self._warm[key][0]

    def open(self, card: ModelCard) -> Engine:
        """The engine of a version; loads it if necessary, which takes about a second.

        Raises:
            WeightsDamaged: the stored weights differ from the registered ones.
            CheckpointError: the weights cannot be read.
            ModelNotFound: the version was deleted meanwhile.
        """
        with self._loading:
            known = self.find(card)
            if known is not None:
                return known
            engine, size = self._load(card), MEMORY_FACTOR * card.weights_bytes
            with self._lock:
                while self._warm and self._held() + size > self.max_bytes:
                    self._warm.popitem(last=False)
                self._warm[_key(card)] = engine, size
            return engine

    def forget_deleted(self) -> None:
        """Drop the engines of versions that do not exist any more; raises StorageError."""
        with self._lock:
            warm = list(self._warm)
        for name, version in warm:
            if not self.registry.cards.exists(name, version):
                with self._lock:
                    self._warm.pop((name, version), None)

    def _held(self) -> int:
        """Estimated bytes of the loaded engines."""
        return sum(size for _, size in self._warm.values())

    def _load(self, card: ModelCard) -> Engine:
        """Load from storage; raises the same error again for `QUARANTINE_S` after a failure."""
        key = _key(card)
        if key in self._bad:
            until, error = self._bad[key]
            if time.monotonic() < until:
                raise error.with_traceback(None)
        try:
            generator = load_model(self.registry.weights(card)).generator
        except (WeightsDamaged, CheckpointError) as found:
            self.registry.card(card.name, card.version)  # else it was deleted meanwhile
            self._bad[key] = time.monotonic() + QUARANTINE_S, found
            raise
        return open_engine(generator)


def _key(card: ModelCard) -> Key:
    return card.name, card.version


async def forget_deleted(engines: EngineCache, round_done: RoundDone) -> None:
    """Free the memory of versions that other processes have deleted; they are not served before."""
    while True:
        try:
            await anyio.to_thread.run_sync(engines.forget_deleted)
        except StorageError as error:
            logger.warning("looking for deleted models failed and is tried again: %s", error)
        round_done()
        await anyio.sleep(FORGET_EVERY_S)
