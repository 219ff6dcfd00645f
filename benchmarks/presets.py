"""python -m benchmarks.presets: size and speed of each preset at each resolution.

Prints parameters, images per second of training, and milliseconds per generated image. The photos
are random pixels, since the speed does not depend on their content. Decoding is not included.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import median
from typing import get_args

import torch

from benchmarks.measure import machine
from models.data.datasets import Dataset
from models.inference.sample import sample
from models.networks.gan import Generator, Resolution
from models.training.presets import Preset, preset_config, preset_recipe
from models.training.state import initial_state
from models.training.train import Progress, train

PHOTOS = 512
CATEGORIES = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--steps", type=int, default=32, help="timed, after as many to warm up")
    options = parser.parse_args(arguments)
    print(f"batches of 32, {options.channels} channels; {machine()}")
    for resolution in (32, 64, 128):
        for preset in get_args(Preset):
            print(_row(preset, resolution, options.channels, options.steps), flush=True)


def _row(preset: Preset, resolution: Resolution, channels: int, steps: int) -> str:
    random = torch.Generator().manual_seed(0)
    shape = (PHOTOS, channels, resolution, resolution)
    photos = Dataset(
        images=torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
        labels=torch.arange(PHOTOS) % CATEGORIES,
        categories=tuple(str(label) for label in range(CATEGORIES)),
    )
    gan = preset_config(preset, resolution, channels, CATEGORIES)
    state = initial_state(gan, preset_recipe(resolution, PHOTOS))
    training = train(state, photos)
    _take(training, steps)
    seconds = state.seconds
    _take(training, steps)
    rate = steps * state.config.batch_size / (state.seconds - seconds)
    parameters = [
        sum(p.numel() for p in network.parameters()) / 1e6
        for network in (state.generator, state.discriminator)
    ]
    latency = median(_generate_ms(state.ema, seed) for seed in range(20))
    return (
        f"{resolution:>4} px  {preset:<9} {parameters[0]:5.2f} M + {parameters[1]:5.2f} M"
        f"  {rate:7.0f} images/s in training  {latency:6.1f} ms an image"
    )


def _take(training: Iterator[Progress], steps: int) -> None:
    for _ in islice(training, steps):
        pass


def _generate_ms(generator: Generator, seed: int) -> float:
    started = time.perf_counter()
    sample(generator, [seed], [0])
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
