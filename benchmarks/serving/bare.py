"""python -m benchmarks.serving.bare WEIGHTS: the model without a server, an upper bound.

Forward pass, PNG and base64 on every core, by the functions that the service itself calls, without
HTTP. Prints one JSON object: images per second at the best of a few batch sizes, and the latency of
single images without other load.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

import torch
from pybase64 import b64encode_as_string

from models.checkpoint import load_model
from models.imaging.encoding import Provenance
from models.imaging.rendering import Rendering, render
from models.inference.engine import Engine, open_engine
from models.inference.sample import latents

CORES = len(os.sched_getaffinity(0))
BATCHES = (1, 8)
AS_IT_IS = Rendering()


@dataclass(frozen=True, kw_only=True)
class Bare:
    """The measured upper bound."""

    images_per_s: float
    batch: int  # with which that was reached
    p50_ms: float  # of a single image
    p99_ms: float


def bare(engine: Engine, seconds: float) -> Bare:
    """Measure for about `seconds`."""
    part = seconds / (len(BATCHES) + 1)
    rates = {batch: _images_per_s(engine, batch, part) for batch in BATCHES}
    best = max(rates, key=lambda batch: rates[batch])
    latencies = _latencies(engine, part)
    return Bare(
        images_per_s=rates[best],
        batch=best,
        p50_ms=1000 * median(latencies),
        p99_ms=1000 * latencies[int(0.99 * len(latencies))],
    )


def _finished(engine: Engine, seeds: Sequence[int]) -> None:
    """Everything that an answer needs except HTTP."""
    labels = torch.tensor([seed % engine.config.categories for seed in seeds])
    images = engine(latents(seeds, engine.config.z_dim), labels)
    for pixels, seed in zip(images, seeds, strict=True):
        origin = Provenance(model="bare", version=1, seed=seed)
        b64encode_as_string(render(pixels, AS_IT_IS, origin))


def _images_per_s(engine: Engine, batch: int, seconds: float) -> float:
    """Throughput on all cores."""
    batches = count()
    _finished(engine, range(batch))

    def work() -> int:
        made = 0
        while time.perf_counter() < end:
            first = batch * next(batches)
            _finished(engine, range(first, first + batch))
            made += batch
        return made

    began = time.perf_counter()
    end = began + seconds
    with ThreadPoolExecutor(CORES) as pool:
        made = sum(future.result() for future in [pool.submit(work) for _ in range(CORES)])
    return made / (time.perf_counter() - began)


def _latencies(engine: Engine, seconds: float) -> list[float]:
    """Seconds of single images, one after the other, sorted."""
    _finished(engine, [0])
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        _finished(engine, [len(taken)])
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def main() -> None:
    """Measure one weights file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    model = load_model(options.weights.read_bytes(), torch.device("cpu"))
    print(json.dumps(asdict(bare(open_engine(model.generator), options.seconds))))


if __name__ == "__main__":
    main()
