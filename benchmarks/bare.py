"""python -m benchmarks.bare WEIGHTS: the model without a server, the most that serving can reach.

Forward, PNG and base64 on every core, by the functions that the service itself calls, and no HTTP.
Prints one JSON object: images a second at the best of a few batch sizes, and the time of a single
image when nothing else is asked for. `compute` is all that knows how the service computes.
"""

import argparse
import base64
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

import torch

from models.checkpoint import Model, load_model
from models.images import Pixels, Provenance
from models.rendering import Rendering, render
from models.sample import sample

CORES = len(os.sched_getaffinity(0))
BATCHES = (1, 8, 32)
AS_IT_IS = Rendering()


@dataclass(frozen=True, kw_only=True)
class Bare:
    """The limit."""

    images_per_s: float
    batch: int  # with which that was reached
    p50_ms: float  # of a single image
    p99_ms: float


def bare(model: Model, seconds: float) -> Bare:
    """Measure for about this long; the torch threads are another number afterwards."""
    part = seconds / (len(BATCHES) + 1)
    rates = {batch: _images_per_s(model, batch, part) for batch in BATCHES}
    best = max(rates, key=lambda batch: rates[batch])
    latencies = min((_latencies(model, n, part / 2) for n in {1, CORES}), key=median)
    return Bare(
        images_per_s=rates[best],
        batch=best,
        p50_ms=1000 * median(latencies),
        p99_ms=1000 * latencies[int(0.99 * len(latencies))],
    )


def compute(model: Model, seeds: Sequence[int], labels: Sequence[int]) -> Iterator[Pixels]:
    """Images of one batch as the service makes them; swap this when its engine changes."""
    yield from sample(model.generator, seeds, labels)


def _finished(model: Model, seeds: Sequence[int]) -> None:
    """All that an answer needs but its HTTP."""
    labels = [seed % len(model.categories) for seed in seeds]
    for pixels, seed in zip(compute(model, seeds, labels), seeds, strict=True):
        origin = Provenance(model="bare", version=1, seed=seed)
        base64.b64encode(render(pixels, AS_IT_IS, origin)).decode()


def _images_per_s(model: Model, batch: int, seconds: float) -> float:
    """On all cores, one torch thread on each."""
    torch.set_num_threads(1)
    batches = count()
    _finished(model, range(batch))

    def work() -> int:
        made = 0
        while time.perf_counter() < end:
            first = batch * next(batches)
            _finished(model, range(first, first + batch))
            made += batch
        return made

    began = time.perf_counter()
    end = began + seconds
    with ThreadPoolExecutor(CORES) as pool:
        made = sum(future.result() for future in [pool.submit(work) for _ in range(CORES)])
    return made / (time.perf_counter() - began)


def _latencies(model: Model, threads: int, seconds: float) -> list[float]:
    """Seconds of single images, one after the other, sorted."""
    torch.set_num_threads(threads)
    _finished(model, [0])
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        _finished(model, [len(taken)])
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def main() -> None:
    """Measure one weights file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    model = load_model(options.weights.read_bytes(), torch.device("cpu"))
    print(json.dumps(asdict(bare(model, options.seconds))))


if __name__ == "__main__":
    main()
