"""python -m benchmarks.engines: throughput of the inference engine against the plain network.

Measures, for each resolution, a preset's generator with random weights: the network in batches; the
network one image at a time, as equal bits would require without an engine; and the engine that
`models.inference.engine` chooses, with single images, in batches, from seeds in place of z, in as
many threads as there are cores, and with its images encoded by threads, as in a bulk job. Also
prints the memory of a loaded engine, relative to the size of its stored weights.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import torch
from torch import Tensor

from benchmarks.measure import interleaved, machine, report
from models.checkpoint import load_model, save_model
from models.data.canonical_archive import map_ahead
from models.imaging.encoding import Provenance
from models.imaging.pixels import Pixels
from models.imaging.rendering import Rendering, render
from models.inference.engine import Engine, open_engine
from models.inference.sample import latents, one_by_one, sample_batch
from models.networks.gan import Generator, Resolution
from models.networks.layers import best_device
from models.training.presets import Preset, preset_config
from tests.processes import resident_bytes

CATEGORIES = tuple("abcdefghij")
ORIGIN = Provenance(model="engines", version=1, seed=0)

Inputs = tuple[Tensor, Tensor]  # z and labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    options = _parser().parse_args(arguments)
    for resolution in options.resolutions:
        stored = save_model(random_generator(options.preset, resolution), CATEGORIES)
        generator = load_model(stored).generator
        engine = _used(generator)
        before = resident_bytes("self")
        another = _used(generator)
        grown = resident_bytes("self") - before
        del another
        runs = interleaved(_sides(generator, engine, options.images), options.rounds)
        report(f"{resolution} px", "images/s", runs)
        print(f"  memory: {grown / len(stored):.1f} times the stored {len(stored) / 1e6:.1f} MB\n")
    print(machine())


def _sides(generator: Generator, engine: Engine, count: int) -> dict[str, Callable[[], float]]:
    threads, few = torch.get_num_threads(), max(count // 4, 1)
    many, some = _inputs(engine, count), _inputs(engine, few)
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "network, in batches": (lambda: sample_batch(generator, range(count), [0] * count), count),
        "network, one at a time": (lambda: one_by_one(generator, *some), few),
        "engine, one at a time": (lambda: list(images(engine, some, 1)), few),
        f"engine, batches of {engine.batch}": (lambda: list(images(engine, many)), count),
        "engine, from seeds": (lambda: list(images(engine, _inputs(engine, count))), count),
        f"engine, by {threads} threads": (
            lambda: _by_threads(engine, many, threads),
            count * threads,
        ),
        "engine, as PNGs": (lambda: list(map_ahead(_png, images(engine, many))), count),
    }
    print(f"engine: {engine.name}")
    return {name: partial(_rate, *each) for name, each in runs.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--images", type=int, default=128, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def random_generator(preset: Preset, resolution: int) -> Generator:
    """An untrained eval-mode generator, with batch norm statistics of its own features.

    Without them the images would have no contrast, and PNG would compress them unduly fast.
    """
    torch.manual_seed(resolution)
    side = cast(Resolution, resolution)
    generator = Generator(preset_config(preset, side, 1 if side == 32 else 3, len(CATEGORIES)))
    with torch.no_grad():
        for _ in range(50):
            labels = torch.randint(len(CATEGORIES), (32,))
            generator(torch.randn(32, generator.config.z_dim), labels)
    return generator.eval().to(best_device())


def _used(generator: Generator) -> Engine:
    engine = open_engine(generator)
    list(images(engine, _inputs(engine, 4 * engine.batch)))
    return engine


def images(engine: Engine, inputs: Inputs, batch: int | None = None) -> Iterator[Pixels]:
    """The images, computed in batches of `batch`, by default the engine's own."""
    for z, labels in zip(*(each.split(batch or engine.batch) for each in inputs), strict=True):
        yield from engine(z, labels)


def _inputs(engine: Engine, count: int) -> Inputs:
    return latents(range(count), engine.config.z_dim), torch.zeros(count, dtype=torch.int64)


def _by_threads(engine: Engine, inputs: Inputs, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: list(images(engine, inputs)), range(threads)))


def _png(pixels: Pixels) -> bytes:
    return render(pixels, Rendering(), ORIGIN)


def _rate(run: Callable[[], object], count: int) -> float:
    """Images per second."""
    began = time.perf_counter()
    run()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
