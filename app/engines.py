"""Engines of model versions, kept warm as long as they fit into memory."""

import threading
import time
from collections import OrderedDict

from models.checkpoint import CheckpointError, load_model
from models.engine import Engine, open_engine
from worker.model_versions import ModelCard
from worker.registry import Registry, WeightsDamaged

QUARANTINE_S = 30.0  # for which bad weights are not read again, however many ask for them
MEMORY_FACTOR = 8  # of a stored version's bytes, what its engine takes: `benchmarks.engines`


class Engines:
    """The versions in memory; the one longest unused is let go."""

    def __init__(self, registry: Registry, max_bytes: int) -> None:
        self.registry = registry
        self.max_bytes = max_bytes
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # of what follows; never held for long
        self._warm: OrderedDict[str, tuple[Engine, int]] = OrderedDict()  # with their bytes
        self._bad: dict[str, tuple[float, Exception]] = {}  # until when, and why

    def find(self, card: ModelCard) -> Engine | None:
        """The version where it is in memory; answers at once."""
        key = _key(card)
        with self._lock:
            if key not in self._warm:
                return None
            self._warm.move_to_end(key)
            return self._warm[key][0]

    def open(self, card: ModelCard) -> Engine:
        """The version, loaded where need be, which takes a second.

        Raises:
            WeightsDamaged: the stored weights are not what was registered.
            CheckpointError: they cannot be read.
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
        """Bytes that the loaded versions take, by estimate."""
        return sum(size for _, size in self._warm.values())

    def _load(self, card: ModelCard) -> Engine:
        """From storage, unless the weights there were found bad a moment ago."""
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
