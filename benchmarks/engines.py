"""python -m benchmarks.engines: what a generator's fast path is worth, before anything is encoded.

For each resolution the preset's generator, with random weights: the network in batches, as its bare
speed; the network one image at a time, as it would have to be computed for equal bits without an
engine; and the engine that `models.engine` chooses, alone, in batches, and by as many threads as
there are cores. Also the memory that a loaded engine takes, over the size of its stored weights.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.measure import interleaved, machine, report
from models.checkpoint import load_model, save_model
from models.engine import Engine, open_engine
from models.gan import Generator, Resolution
from models.layers import best_device
from models.presets import preset_config
from models.sample import latents, one_by_one, sample_batch

CATEGORIES = tuple("abcdefghij")
PAGE_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    options = _parser().parse_args(arguments)
    for resolution in options.resolutions:
        stored = save_model(random_generator(options.preset, resolution), CATEGORIES)
        generator = load_model(stored).generator
        engine = _used(generator)
        before = _memory()
        another = _used(generator)
        grown = _memory() - before
        del another
        runs = interleaved(_sides(generator, engine, options.images), options.rounds)
        report(f"{resolution} px", "images/s", runs)
        print(f"  memory: {grown / len(stored):.1f} times the stored {len(stored) / 1e6:.1f} MB\n")
    print(machine())


def _sides(generator: Generator, engine: Engine, count: int) -> dict[str, Callable[[], float]]:
    threads, few = torch.get_num_threads(), max(count // 4, 1)
    z_dim, name = generator.config.z_dim, engine.name
    return {
        "network, in batches": lambda: _rate(
            lambda: sample_batch(generator, range(count), [0] * count, 64), count
        ),
        "network, one at a time": lambda: _rate(
            lambda: one_by_one(generator, *_inputs(z_dim, few)), few
        ),
        f"{name}, one at a time": lambda: _rate(lambda: images(engine, few, 1), few),
        f"{name}, batches of {engine.batch}": lambda: _rate(
            lambda: images(engine, count, engine.batch), count
        ),
        f"{name}, by {threads} threads": lambda: _rate(
            lambda: _by_threads(engine, count, threads), count * threads
        ),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--images", type=int, default=128, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def random_generator(preset: str, resolution: Resolution) -> Generator:
    """An eval-mode generator whose norms have seen what flows through them."""
    torch.manual_seed(0)
    generator = Generator(preset_config(preset, resolution, 1 if resolution < 64 else 3, 10))  # type: ignore[arg-type]
    with torch.no_grad():
        for _ in range(20):
            generator(torch.randn(8, generator.config.z_dim), torch.arange(8))
    return generator.eval().to(best_device())


def _used(generator: Generator) -> Engine:
    engine = open_engine(generator)
    images(engine, 4 * engine.batch, engine.batch)
    return engine


def images(engine: Engine, count: int, batch: int) -> None:
    """Have so many images computed."""
    z, labels = _inputs(128, count)
    for start in range(0, count, batch):
        engine(z[start : start + batch], labels[start : start + batch])


def _inputs(z_dim: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return latents(range(count), z_dim), torch.zeros(count, dtype=torch.int64)


def _by_threads(engine: Engine, count: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: images(engine, count, engine.batch), range(threads)))


def _rate(run: Callable[[], object], count: int) -> float:
    """Images a second."""
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


def _memory() -> int:
    """What this process holds, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    main()
