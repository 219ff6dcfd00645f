"""Dynamic batching: concurrent requests for one model version share forward passes.

The queue is counted in images and bounded (backpressure: 429 when it is full). Each lane is a
thread that takes a batch of one version, computes it and encodes its images, while other lanes
compute. No lane waits for a batch to fill, so an idle service answers at once. Versions take turns
(round robin), and so do the requests for one version: a request for 64 images does not delay a
request for one. Images of cancelled requests are not computed.
"""

import asyncio
import logging
import math
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from app.errors import Problem
from app.metrics import Metrics
from models.imaging.pixels import Pixels
from models.inference.engine import Engine
from models.inference.sample import latents

logger = logging.getLogger(__name__)

# The interpreter's switch interval: how long a lane may wait for the GIL after a forward pass.
# Python's default of 5 ms is longer than the pass; with 32 clients it costs 5 % of the throughput.
SWITCH_S = 1e-4

# Requests completed in one event-loop callback: each callback takes a core from a lane.
MAX_RESOLVED_TOGETHER = 8

File = TypeVar("File")
Finish = Callable[[int, Pixels], File]  # index and pixels of an image to its file


@dataclass(eq=False, kw_only=True)
class PendingImages(Generic[File]):
    """The images of one request, queued for the lanes."""

    model: str
    version: int
    engine: Engine
    seeds: Sequence[int]
    labels: Sequence[int]
    truncation: float
    finish: Finish[File]
    is_cancelled: bool = False
    queued: float = field(default_factory=time.perf_counter)
    queue_s: float = 0.0
    compute_s: float = 0.0  # of the forward passes that it took part in
    encode_s: float = 0.0
    taken: int = 0  # images
    files: dict[int, File] = field(default_factory=dict)
    done: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def left(self) -> int:
        """Number of images that no lane has taken yet."""
        return len(self.seeds) - self.taken


AnyPendingImages = PendingImages[Any]
Batch = list[tuple[AnyPendingImages, int]]  # images, each as its request and its index there


class Batcher:
    """The lanes (worker threads) and their bounded queue."""

    def __init__(self, lanes: int, max_images: int, metrics: Metrics) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.lanes = lanes
        self.max_images = max_images
        self.metrics = metrics
        self._queues: OrderedDict[tuple[str, int], deque[AnyPendingImages]] = OrderedDict()
        self._waiting = 0  # images
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, pending: AnyPendingImages) -> None:
        """Queue the images of a request, which sets `done` at the end; raises Problem (429)."""
        with self._changed:
            if self._waiting + pending.left > self.max_images:
                raise Problem(429, "queue_full", "Too many images are waiting; try again shortly.")
            self._queues.setdefault((pending.model, pending.version), deque()).append(pending)
            self._waiting += pending.left
            self._changed.notify(min(pending.left, self.lanes))

    def cancel(self, pending: AnyPendingImages) -> None:
        """Drop the images of a request that no lane has taken."""
        key = (pending.model, pending.version)
        with self._changed:
            pending.is_cancelled = True
            waiting = self._queues.get(key, deque())
            if pending in waiting:
                waiting.remove(pending)
                self._waiting -= pending.left
                if not waiting:
                    del self._queues[key]

    def close(self) -> None:
        """Stop the lanes; images that still wait are never computed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while batch := self._take():
            try:
                pixels = self._compute(batch)
            except torch.OutOfMemoryError as error:
                self._fail(batch, error)
            except Exception as error:
                logger.exception("a forward pass of %d images failed", len(batch))
                self._fail(batch, error)
            else:
                self._encode(batch, pixels)

    def _take(self) -> Batch:
        """The next batch, of the version whose turn it is; empty after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            version = next(iter(self._queues))
            waiting = self._queues[version]
            # Leaves the other lanes their share of the version's images.
            share = math.ceil(sum(pending.left for pending in waiting) / self.lanes)
            most = min(share, waiting[0].engine.batch)
            batch: Batch = []
            while len(batch) < most:  # `share` is at most the number that waits
                pending = waiting.popleft()
                if pending.taken == 0:
                    pending.queue_s = time.perf_counter() - pending.queued
                batch.append((pending, pending.taken))
                pending.taken += 1
                if pending.left:
                    waiting.append(pending)
            self._waiting -= len(batch)
            self._queues.move_to_end(version)
            if not waiting:
                del self._queues[version]
            return batch

    def _compute(self, batch: Batch) -> Pixels:
        """Compute the images (N, R, R, C) of a batch in one forward pass."""
        began = time.perf_counter()
        first = batch[0][0]
        z_dim = first.engine.config.z_dim
        z = latents([pending.seeds[i] for pending, i in batch], z_dim)
        z *= torch.tensor([[pending.truncation] for pending, _ in batch])
        pixels = first.engine(z, torch.tensor([pending.labels[i] for pending, i in batch]))
        compute_s = time.perf_counter() - began
        self.metrics.computed(first.model, len(batch), compute_s)
        for pending in {id(pending): pending for pending, _ in batch}.values():
            pending.compute_s += compute_s
        return pixels

    def _encode(self, batch: Batch, pixels: Pixels) -> None:
        """Encode the images of a batch; complete each request whose last image is among them."""
        whole = []
        for (pending, index), image in zip(batch, pixels, strict=True):
            if pending.is_cancelled:
                continue
            try:
                is_last = self._finish(pending, index, image)
            except Exception as error:
                logger.exception("an image could not be encoded")
                self._fail([(pending, index)], error)
                continue
            if is_last:
                whole.append(pending)
            if len(whole) == MAX_RESOLVED_TOGETHER:
                _resolve(whole)
                whole = []
        _resolve(whole)

    def _finish(self, pending: AnyPendingImages, index: int, image: Pixels) -> bool:
        """Encode one image; returns whether it was the last one of its request."""
        began = time.perf_counter()
        file = pending.finish(index, image)
        with self._changed:
            pending.encode_s += time.perf_counter() - began
            pending.files[index] = file
            return len(pending.files) == len(pending.seeds)

    def _fail(self, batch: Batch, error: Exception) -> None:
        for pending, _ in batch:
            self.cancel(pending)
        _resolve([pending for pending, _ in batch], error)


def _resolve(waiting: Sequence[AnyPendingImages], error: Exception | None = None) -> None:
    """Set the `done` of these requests, in one callback of their event loop."""

    def settle() -> None:
        for pending in waiting:
            if pending.done.done():
                continue
            if error is None:
                pending.done.set_result(None)
            else:
                pending.done.set_exception(error)

    if waiting:
        waiting[0].done.get_loop().call_soon_threadsafe(settle)
