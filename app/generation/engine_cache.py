"""LRU cache of inference engines, bounded by an estimate of their memory."""

import threading
import time
from collections import OrderedDict

from models.checkpoint import CheckpointError, load_model
from models.inference.engine import Engine, open_engine
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry, WeightsDamaged

QUARANTINE_S = 30.0  # for which weights that cannot be used are not read again
MEMORY_FACTOR = 8  # an engine's memory over its stored bytes: `benchmarks.engines`


class EngineCache:
    """Engines by model version; evicts the least recently used."""

    def __init__(self, registry: Registry, max_bytes: int) -> None:
        self.registry = registry
        self.max_bytes = max_bytes
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # guards `_warm`; never held for long
        self._warm: OrderedDict[str, tuple[Engine, int]] = OrderedDict()  # with its size in bytes
        self._bad: dict[str, tuple[float, Exception]] = {}  # when to retry, and the error

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
            self._bad[key] = time.monotonic() + QUARANTINE_S, found
            raise
        return open_engine(generator)


def _key(card: ModelCard) -> str:
    return f"{card.name}:{card.version}"
