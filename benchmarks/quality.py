"""python -m benchmarks.quality: our recipe against DCGAN and ablations, at equal wall time.

Every variant trains the same number of seconds with each seed, in turn, on the same photos. It is
judged by the panel against held-out photos; grey images in the features of a CNN fitted on the
training part before any GAN ran. `dcgan` is the baseline: batch norm in both networks, real and
fake batches apart, binary cross-entropy, Adam with beta1 0.5, as published, with the same
conditioning and EMA as ours; its width and learning rate are the best of those in `TUNING`. Each
other variant changes one ingredient of `ours`, or two that belong together. All schedules reach
their last value at the end of the time. The floor is training photos in place of generated images.

`--images 500000 1000000` gives each variant a number of images in place of a time, to repeat
trainings that were timed on another machine.

`--side-by-side 2` trains two at a time, each in its own process on its own share of the cores: two
processes slow each other down less than two threads of one small network do.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import machine
from benchmarks.photos import photo_parser, split_photos
from models.data.datasets import Dataset
from models.evaluation.extractors import report_extractors
from models.evaluation.generation import generate_matching
from models.evaluation.panel import Panel
from models.evaluation.panel_report import MOST_HELD_OUT_PHOTOS, PanelReport, open_judge
from models.evaluation.scores import Measures
from models.networks.gan import GanConfig
from models.pretrain import judge_of_grey
from models.progress import run
from models.training.presets import preset_config, preset_recipe
from models.training.state import TrainState, initial_state
from models.training.train import train
from models.training.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from our preset."""

    gan: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    unconditional: bool = False


def dcgan(width: int, lr: float) -> Variant:
    """The baseline at one width and learning rate."""
    return Variant(
        gan={
            "family": "dcgan",
            "discriminator_norm": "batch",
            "generator_width": width,
            "discriminator_width": width,
        },
        recipe={
            "loss": "classic",
            "gamma": 0.0,
            "augment_p": 0.0,
            "batch_size": 64,
            "lr": lr,
            "betas": (0.5, 0.999),
        },
    )


TUNING = {
    f"dcgan width {width} lr {lr:g}": dcgan(width, lr)
    for width in (32, 64)
    for lr in (2e-4, 4e-4, 8e-4)
}
VARIANTS: dict[str, Variant] = {
    "ours": Variant(),
    "dcgan": dcgan(32, 4e-4),
    "classic loss": Variant(recipe={"loss": "classic"}),
    "hinge loss": Variant(recipe={"loss": "hinge"}),
    "no penalties": Variant(recipe={"gamma": 0.0}),
    "spectral norm, no penalties": Variant(
        gan={"discriminator_norm": "spectral"}, recipe={"gamma": 0.0}
    ),
    "dcgan's shapes": Variant(gan={"family": "dcgan"}),
    "other augmentation": Variant(recipe={"augment_p": 0.15}),
    "no EMA": Variant(recipe={"ema_half_life": 1e-3}),
    "half the learning rate": Variant(recipe={"lr": 6e-4}),
    "unconditional": Variant(unconditional=True),
    # Found by a search with half the preset's latency as its limit, in trainings of 44 s.
    "searched": Variant(
        gan={"family": "dcgan", "generator_width": 16, "discriminator_width": 32},
        recipe={"loss": "hinge", "gamma": 2.0},
    ),
    **TUNING,
}
DEFAULT = [name for name in VARIANTS if name not in TUNING]
Places = SimpleQueue[list[int]]  # the cores that the pool's processes are pinned to
PROBE_S = 5.0  # of training, to estimate how many images fit into the time
here: dict[str, Any] = {}  # state of a process of the pool, kept between trainings
SHOWN = ("kid", "fd", "precision", "recall", "coverage")  # by the panel's first network


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate and print medians over the seeds."""
    options = _parser().parse_args(arguments)
    if options.images and len(options.images) != len(options.variants):
        raise SystemExit("--images takes a number for each of --variants")
    training, held_out = split_photos(options)
    cnn = judge_of_grey(None, training, len(held_out.labels))
    judge = run(open_judge(Panel(report_extractors(cnn)), training, held_out))
    judged, network = (
        held_out.spaced(MOST_HELD_OUT_PHOTOS),
        judge.reference.panel.extractors[0].name,
    )
    print(f"{'floor':<53} {numbers(judge.scale.floor, network)}", flush=True)

    reports: dict[str, list[PanelReport]] = {name: [] for name in options.variants}
    # A fork would inherit torch's locks, but not the threads that release them.
    context = multiprocessing.get_context("spawn")
    places: Places = context.SimpleQueue()
    for cores in _shares(sorted(os.sched_getaffinity(0)), options.side_by_side):
        places.put(cores)
    with ProcessPoolExecutor(
        options.side_by_side,
        mp_context=context,
        initializer=partial(_take_place, places, options),
    ) as pool:
        names = [name for _ in options.seeds for name in options.variants]
        seeds = [seed for seed in options.seeds for _ in options.variants]
        found = pool.map(_images, names, seeds)
        for name, seed, (shown, pixels) in zip(names, seeds, found, strict=True):
            images = torch.from_numpy(pixels)[judged]
            report = run(judge.judge_images(images))
            reports[name].append(report)
            print(
                f"{name + f', seed {seed}':<36} {shown:>9,} images  score {report.score:5.1f}"
                f"  {numbers(report.model, network)}",
                flush=True,
            )
    share = f"{options.side_by_side} side by side" if options.side_by_side > 1 else "one at a time"
    length = f"{options.images} images" if options.images else f"{options.seconds:.0f} s each"
    print(f"\nMedians of {len(options.seeds)} seeds, {length}, {share}; {machine()}")
    print(f"{len(judge.held_out.labels)} held-out photos; judges {judge.reference.panel.identity}")
    for name, runs in reports.items():
        middle = {key: median(run.model.get(key, 0.0) for run in runs) for key in runs[0].model}
        score = median(run.score for run in runs)
        print(f"  {name:<28} score {score:5.1f}  {numbers(middle, network)}")


def _parser() -> argparse.ArgumentParser:
    parser = photo_parser(__doc__, preset="balanced")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--images", type=int, nargs="+", help="one number for each variant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side-by-side", type=int, default=1, help="trainings at a time")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=DEFAULT)
    return parser


def _shares(cores: list[int], count: int) -> list[list[int]]:
    """`cores` divided evenly into `count` parts."""
    if not 1 <= count <= len(cores):
        raise SystemExit(f"--side-by-side must be in 1..{len(cores)}, the cores of this machine")
    return [cores[number::count] for number in range(count)]


def _take_place(places: Places, options: argparse.Namespace) -> None:
    """Pin this process to its cores and load the photos; initialises the pool's processes."""
    cores = places.get()
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    here["options"] = options
    here["photos"] = split_photos(options)


def _images(name: str, seed: int) -> tuple[int, NDArray[np.uint8]]:
    """Train one variant; returns how many images it was shown, and its EMA generator's images."""
    options: argparse.Namespace = here["options"]
    variant, (training, held_out) = VARIANTS[name], here["photos"]
    if variant.unconditional:
        training, held_out = _without_categories(training), _without_categories(held_out)
    channels, categories = training.images.shape[1], len(training.categories)
    shape = preset_config(options.preset, options.resolution, channels, categories)
    fixed = {"max_images": 10**9, "seed": seed, "flip": options.flip}
    recipe = preset_recipe(options.resolution, len(training.labels), **variant.recipe | fixed)
    gan = GanConfig(**vars(shape) | variant.gan)
    recipe = _bounded(gan, recipe, training, name)
    state = _trained(gan, recipe, training)
    pixels: NDArray[np.uint8] = generate_matching(state.ema, held_out).numpy()
    return state.images, pixels


def _bounded(gan: GanConfig, recipe: TrainConfig, training: Dataset, name: str) -> TrainConfig:
    """The recipe with its limit of time or images, at which its schedules end too."""
    options: argparse.Namespace = here["options"]
    if options.images:
        images = options.images[options.variants.index(name)]
        return replace(recipe, max_seconds=float("inf"), max_images=images, anneal_images=images)
    probe = _trained(gan, replace(recipe, max_seconds=PROBE_S), training)
    expected = round(probe.images * options.seconds / probe.seconds)
    return replace(recipe, max_seconds=options.seconds, anneal_images=expected)


def _trained(gan: GanConfig, recipe: TrainConfig, training: Dataset) -> TrainState:
    state = initial_state(gan, recipe)
    for _ in train(state, training):
        pass
    return state


def _without_categories(dataset: Dataset) -> Dataset:
    return replace(dataset, labels=torch.zeros_like(dataset.labels), categories=("any",))


def numbers(measures: Measures, network: str) -> str:
    """The shown measures in a network's features, as text."""
    shown = {f"{stem}_{network}": measures[f"{stem}_{network}"] for stem in SHOWN}
    shown["category_accuracy"] = measures["category_accuracy"]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown.items())


if __name__ == "__main__":
    main()
