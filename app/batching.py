"""Concurrent requests for one model version, merged into one forward pass.

What waits is counted in images and bounded. Each lane is a thread that takes a batch of one
version, computes it and encodes its images, while other lanes compute: so nothing waits for a batch
to fill, and an idle service answers at once. Versions take turns, and so do the requests for one:
somebody who wants 64 images does not keep somebody waiting who wants one. What nobody waits for any
more is not computed.
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
from models.engine import Engine
from models.images import Pixels
from models.sample import latents

logger = logging.getLogger(__name__)

# How long a lane that comes back from a forward pass may wait for the interpreter. Python's own
# 5 ms are longer than the pass; with 32 clients they cost a twentieth of the requests a second.
SWITCH_S = 1e-4

# Orders whose waiters are woken at once: each time, the event loop takes a core from a lane.
TOLD_TOGETHER = 8

File = TypeVar("File")
Finish = Callable[[int, Pixels], File]  # the index of an image and its pixels, to a file


@dataclass(eq=False, kw_only=True)
class Order(Generic[File]):
    """The images that one request waits for."""

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
        """Images that no lane has taken."""
        return len(self.seeds) - self.taken


AnyOrder = Order[Any]
Batch = list[tuple[AnyOrder, int]]  # images, each by its order and its index there


class Batcher:
    """The lanes, and what waits for them."""

    def __init__(self, lanes: int, max_images: int, metrics: Metrics) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.lanes = lanes
        self.max_images = max_images
        self.metrics = metrics
        self._orders: OrderedDict[tuple[str, int], deque[AnyOrder]] = OrderedDict()
        self._waiting = 0  # images
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, order: AnyOrder) -> None:
        """Have the images of an order computed, until its `done`; raises Problem (429)."""
        with self._changed:
            if self._waiting + order.left > self.max_images:
                raise Problem(429, "queue_full", "Too many images are waiting; try again shortly.")
            self._orders.setdefault((order.model, order.version), deque()).append(order)
            self._waiting += order.left
            self._changed.notify(min(order.left, self.lanes))

    def cancel(self, order: AnyOrder) -> None:
        """Leave out what of an order no lane has taken."""
        key = (order.model, order.version)
        with self._changed:
            order.is_cancelled = True
            orders = self._orders.get(key, deque())
            if order in orders:
                orders.remove(order)
                self._waiting -= order.left
                if not orders:
                    del self._orders[key]

    def close(self) -> None:
        """End the lanes; what waits is never computed."""
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
        """The next images of the version whose turn it is; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            version = next(iter(self._orders))
            orders = self._orders[version]
            # The other lanes get their share of what waits.
            share = math.ceil(sum(order.left for order in orders) / self.lanes)
            most = min(share, orders[0].engine.batch)
            batch: Batch = []
            while len(batch) < most:  # `share` is no more than there is
                order = orders.popleft()
                if order.taken == 0:
                    order.queue_s = time.perf_counter() - order.queued
                batch.append((order, order.taken))
                order.taken += 1
                if order.left:
                    orders.append(order)
            self._waiting -= len(batch)
            self._orders.move_to_end(version)
            if not orders:
                del self._orders[version]
            return batch

    def _compute(self, batch: Batch) -> Pixels:
        """The images (N, R, R, C) of a batch, one forward pass."""
        began = time.perf_counter()
        first = batch[0][0]
        z_dim = first.engine.config.z_dim
        z = latents([order.seeds[i] for order, i in batch], z_dim)
        z *= torch.tensor([[order.truncation] for order, _ in batch])
        pixels = first.engine(z, torch.tensor([order.labels[i] for order, i in batch]))
        compute_s = time.perf_counter() - began
        self.metrics.computed(first.model, len(batch), compute_s)
        for order in {id(order): order for order, _ in batch}.values():
            order.compute_s += compute_s
        return pixels

    def _encode(self, batch: Batch, pixels: Pixels) -> None:
        """Finish the images of a batch, and with the last one of an order the order."""
        whole = []
        for (order, index), image in zip(batch, pixels, strict=True):
            if order.is_cancelled:
                continue
            try:
                is_last = self._finish(order, index, image)
            except Exception as error:
                logger.exception("an image could not be encoded")
                self._fail([(order, index)], error)
                continue
            if is_last:
                whole.append(order)
            if len(whole) == TOLD_TOGETHER:
                _tell(whole)
                whole = []
        _tell(whole)

    def _finish(self, order: AnyOrder, index: int, image: Pixels) -> bool:
        """One image of an order, to a file; whether it is the last one."""
        began = time.perf_counter()
        file = order.finish(index, image)
        with self._changed:
            order.encode_s += time.perf_counter() - began
            order.files[index] = file
            return len(order.files) == len(order.seeds)

    def _fail(self, batch: Batch, error: Exception) -> None:
        for order, _ in batch:
            self.cancel(order)
        _tell([order for order, _ in batch], error)


def _tell(orders: Sequence[AnyOrder], error: Exception | None = None) -> None:
    """Wake those who wait for orders, all in one event loop."""

    def settle() -> None:
        for order in orders:
            if order.done.done():
                continue
            if error is None:
                order.done.set_result(None)
            else:
                order.done.set_exception(error)

    if orders:
        orders[0].done.get_loop().call_soon_threadsafe(settle)
