"""Warm generators, and one lane of computation with a bounded queue before it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.metrics import Metrics
from models.checkpoint import CheckpointError, Model, load_model
from models.sample import sample
from worker.model_versions import ModelCard
from worker.registry import Registry, WeightsDamaged

MODELS_KEPT = 8
QUARANTINE_S = 30.0  # for which bad weights are not read again, however many ask for them


@dataclass(frozen=True)
class Sampled:
    """Images (N, R, R, C) uint8, and where the time went."""

    pixels: NDArray[np.uint8]
    queue_ms: float
    compute_ms: float


class Sampler:
    """Samples from any registered version; the torch threads serve one request at a time."""

    def __init__(self, registry: Registry, max_queue: int, metrics: Metrics) -> None:
        self.registry = registry
        self.metrics = metrics
        self._places = threading.BoundedSemaphore(max_queue)
        self._lane = threading.Lock()
        self._loading = threading.Lock()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._bad: dict[str, tuple[float, Exception]] = {}  # until when, and why

    def sample(
        self, card: ModelCard, seeds: Sequence[int], labels: Sequence[int], truncation: float
    ) -> Sampled:
        """Images of one version.

        Raises:
            Problem: 429, too many requests wait already.
            WeightsDamaged: the stored weights are not what was registered.
            CheckpointError: they cannot be read.
        """
        queued = time.perf_counter()
        with self._place(), self._lane:
            started = time.perf_counter()
            pixels = sample(self.model(card).generator, seeds, labels, truncation)
        ended = time.perf_counter()
        self.metrics.sampled(card.name, len(seeds), started - queued, ended - started)
        return Sampled(pixels, 1000 * (started - queued), 1000 * (ended - started))

    def model(self, card: ModelCard) -> Model:
        """The loaded version, kept for the next request; the one longest unused is let go."""
        key = f"{card.name}:{card.version}"
        with self._loading:
            model = self._models.pop(key, None) or self._load(key, card)
            self._models[key] = model
            if len(self._models) > MODELS_KEPT:
                self._models.popitem(last=False)
        return model

    def _load(self, key: str, card: ModelCard) -> Model:
        """From storage, unless the weights there were found bad a moment ago."""
        if key in self._bad:
            until, error = self._bad[key]
            if time.monotonic() < until:
                raise error.with_traceback(None)
        try:
            return load_model(self.registry.weights(card))
        except (WeightsDamaged, CheckpointError) as found:
            self._bad[key] = time.monotonic() + QUARANTINE_S, found
            raise

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Problem(429, "queue_full", "Too many requests are waiting; try again shortly.")
        try:
            with self.metrics.waiting.track_inprogress():
                yield
        finally:
            self._places.release()
