"""Batching: concurrent requests are merged, bounded, treated fairly, and dropped on cancel."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from app.errors import Problem
from app.generation.batching import Batcher, PendingImages
from app.metrics import Metrics
from models.imaging.pixels import Pixels
from models.networks.gan import GanConfig

Z_DIM = 4


class Gated:
    """An engine that records its batches, and computes once its gate is open."""

    name = "gated"
    config = GanConfig(z_dim=Z_DIM)
    batch = 8

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[int] = []
        self.labels: list[int] = []  # in the order in which they were computed
        self.error: Exception | None = None

    def __call__(self, z: Tensor, labels: Tensor) -> Pixels:
        assert z.shape == (len(labels), Z_DIM)
        self.batches.append(len(labels))
        self.labels += labels.tolist()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return np.repeat(labels.numpy().astype(np.uint8), 4).reshape(-1, 2, 2, 1)


def order(engine: Gated, model: str = "a", n: int = 1, label: int = 0) -> PendingImages[bytes]:
    return PendingImages(
        model=model,
        version=1,
        engine=engine,
        seeds=range(n),
        labels=[label] * n,
        truncation=1.0,
        finish=lambda index, pixels: bytes([index, int(pixels[0, 0, 0])]),
    )


@asynccontextmanager
async def lanes(count: int = 1, max_images: int = 100) -> AsyncIterator[Batcher]:
    batcher = Batcher(count, max_images, Metrics())
    try:
        yield batcher
    finally:
        await asyncio.to_thread(batcher.close)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def run(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scene())


async def hold(batcher: Batcher, engine: Gated) -> Awaitable[None]:
    """Occupy the only lane with one image, until the gate opens."""
    first = order(engine)
    batcher.submit(first)
    await until(lambda: engine.batches == [1])
    return first.done


def test_an_idle_lane_waits_for_nobody() -> None:
    async def scene() -> None:
        engine = Gated()
        engine.gate.set()
        async with lanes() as batcher:
            wanted = order(engine, n=3, label=7)
            batcher.submit(wanted)
            await wanted.done
        assert engine.batches == [3]
        assert wanted.files == {0: b"\0\7", 1: b"\1\7", 2: b"\2\7"}
        assert wanted.compute_s > 0

    run(scene)


def test_what_waits_is_merged_into_one_forward_pass() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes() as batcher:
            held = await hold(batcher, engine)
            orders = [order(engine, label=label) for label in range(11)]
            for each in orders:
                batcher.submit(each)
            engine.gate.set()
            await asyncio.gather(held, *(each.done for each in orders))
        assert engine.batches == [1, 8, 3]
        assert [each.files[0] for each in orders] == [bytes([0, label]) for label in range(11)]

    run(scene)


def test_lanes_share_what_waits() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes(2) as batcher:
            wanted = order(engine, n=10)
            batcher.submit(wanted)
            await until(lambda: len(engine.batches) == 2)
            assert sorted(engine.batches) == [3, 5]  # half of it, and half of what was left
            engine.gate.set()
            await wanted.done

    run(scene)


def test_one_image_is_not_kept_waiting_by_those_who_want_many() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes() as batcher:
            held = await hold(batcher, engine)
            many, one = order(engine, n=64), order(engine, label=1)
            batcher.submit(many)
            batcher.submit(one)
            engine.gate.set()
            await asyncio.gather(held, one.done, many.done)
            assert engine.labels.index(1) <= 2
            assert sorted(many.files) == list(range(64))

    run(scene)


def test_models_take_turns() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes() as batcher:
            held = await hold(batcher, engine)
            many = [order(engine, n=16) for _ in range(4)]
            for each in many:
                batcher.submit(each)
            wanted = order(engine, model="b", label=1)
            batcher.submit(wanted)
            engine.gate.set()
            await asyncio.gather(held, wanted.done, *(each.done for each in many))
        assert engine.batches[:3] == [1, 8, 1]
        assert engine.labels.index(1) == 9

    run(scene)


def test_the_queue_is_bounded_in_images() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes(max_images=10) as batcher:
            held = await hold(batcher, engine)
            fits, too_many, one_more = order(engine, n=9), order(engine, n=2), order(engine)
            batcher.submit(fits)
            with pytest.raises(Problem) as refused:
                batcher.submit(too_many)
            assert (refused.value.status_code, refused.value.code) == (429, "queue_full")
            batcher.submit(one_more)
            engine.gate.set()
            await asyncio.gather(held, fits.done, one_more.done)
            batcher.submit(too_many)  # there is room again
            await too_many.done

    run(scene)


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def scene() -> None:
        engine = Gated()
        async with lanes(max_images=20) as batcher:
            held = await hold(batcher, engine)
            left, stays = order(engine, n=20), order(engine)
            batcher.submit(left)
            batcher.cancel(left)
            batcher.submit(stays)  # its place is free
            engine.gate.set()
            await asyncio.gather(held, stays.done)
            assert engine.batches == [1, 1]
            assert not left.files

    run(scene)


def test_a_forward_pass_that_fails_fails_alone() -> None:
    async def scene() -> None:
        engine = Gated()
        engine.error = torch.OutOfMemoryError()
        engine.gate.set()
        async with lanes() as batcher:
            wanted = order(engine, n=20)
            batcher.submit(wanted)
            with pytest.raises(torch.OutOfMemoryError):
                await wanted.done
            assert engine.batches == [8]  # the rest is not tried
            engine.error = None
            again = order(engine)
            batcher.submit(again)
            await again.done

    run(scene)


def test_an_image_that_cannot_be_encoded_fails_its_own_request() -> None:
    def fault(_index: int, _pixels: Pixels) -> bytes:
        raise ZeroDivisionError

    async def scene() -> None:
        engine = Gated()
        async with lanes() as batcher:
            held = await hold(batcher, engine)
            bad, good = order(engine), order(engine, label=5)
            bad.finish = fault
            batcher.submit(bad)
            batcher.submit(good)
            engine.gate.set()
            await asyncio.gather(held, good.done)
            assert engine.batches == [1, 2]
            assert good.files == {0: b"\0\5"}
            with pytest.raises(ZeroDivisionError):
                await bad.done

    run(scene)
