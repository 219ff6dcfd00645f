"""python -m benchmarks.quality: our recipe against DCGAN and ablations, at equal wall time.

Every variant trains the same number of seconds with each seed, in turn, on the same photos. It is
evaluated on held-out photos, in the features of a CNN fitted on the training part before any GAN
ran. `dcgan` is the baseline: batch norm in both networks, real and fake batches apart,
binary cross-entropy, Adam with beta1 0.5, as published, with the same conditioning and EMA as ours;
its width and learning rate are the best of those in `TUNING`. Each other variant changes one
ingredient of `ours`, or two that belong together. All schedules reach their last value at the end
of the time. The floor is training photos in place of generated images.

`--images 500000 1000000` gives each variant a number of images in place of a time, to repeat
trainings that were timed on another machine.

`--side-by-side 2` trains two at a time, each in its own process on its own share of the cores:
two processes slow each other down less than two threads of one small network do.
"""

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import nan
from multiprocessing.queues import SimpleQueue
from statistics import median
from typing import Any

import torch

from benchmarks.measure import machine
from benchmarks.photos import photo_parser, split_photos
from models.checkpoint import load_classifier, save_classifier
from models.data.datasets import Dataset
from models.evaluation.evaluation import (
    Evaluation,
    EvaluationSet,
    evaluate_images,
    extract_features,
    some_training_photos,
)
from models.evaluation.feature_extractor import digest, fit_extractor
from models.evaluation.generation import generate_matching
from models.networks.gan import GanConfig
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
FIELDS = ("fd_cnn", "fd_cnn_infinity", "precision", "recall", "coverage", "category_accuracy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate and print medians over the seeds."""
    options = _parser().parse_args(arguments)
    if options.images and len(options.images) != len(options.variants):
        raise SystemExit("--images takes a number for each of --variants")
    training, held_out = split_photos(options)
    extractor = run(fit_extractor(training, len(held_out.labels)))
    photos = run(extract_features(extractor, training, held_out))
    drawn = some_training_photos(photos)
    show("floor", 0, evaluate_images(photos, drawn.images, drawn.labels))

    scores: dict[str, list[Evaluation]] = {name: [] for name in options.variants}
    # A fork would inherit torch's locks, but not the threads that release them.
    context = multiprocessing.get_context("spawn")
    places: Places = context.SimpleQueue()
    for cores in _shares(sorted(os.sched_getaffinity(0)), options.side_by_side):
        places.put(cores)
    with ProcessPoolExecutor(
        options.side_by_side,
        mp_context=context,
        initializer=partial(_take_place, places, options, save_classifier(extractor)),
    ) as pool:
        names = [name for _ in options.seeds for name in options.variants]
        seeds = [seed for seed in options.seeds for _ in options.variants]
        found = pool.map(_score, names, seeds)
        for name, seed, (images, score) in zip(names, seeds, found, strict=True):
            scores[name].append(score)
            show(f"{name}, seed {seed}", images, score)
    share = f"{options.side_by_side} side by side" if options.side_by_side > 1 else "one at a time"
    length = f"{options.images} images" if options.images else f"{options.seconds:.0f} s each"
    times = f"{len(options.seeds)} seeds, {length}, {share}"
    print(f"\nMedians of {times}; {machine()}")
    print(f"{len(held_out.labels)} held-out photos; extractor {digest(extractor)[:8]}")
    for name, runs in scores.items():
        kid = median(score.kid_cnn.value for score in runs)
        values = [median(_known(getattr(score, field)) for score in runs) for field in FIELDS]
        numbers = "  ".join(f"{f} {v:.3f}" for f, v in zip(FIELDS, values, strict=True))
        print(f"  {name:<28} kid_cnn {kid:.3f}  {numbers}")


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


def _take_place(places: Places, options: argparse.Namespace, extractor: bytes) -> None:
    """Pin this process to its cores and load the photos; initialises the pool's processes."""
    cores = places.get()
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    here["options"] = options
    here["photos"] = run(extract_features(load_classifier(extractor), *split_photos(options)))


def _score(name: str, seed: int) -> tuple[int, Evaluation]:
    """Train one variant; returns the images it was shown and its EMA generator's evaluation."""
    options: argparse.Namespace = here["options"]
    photos: EvaluationSet = here["photos"]
    variant, training, held_out = VARIANTS[name], photos.training, photos.held_out
    if variant.unconditional:
        training, held_out = _without_categories(training), _without_categories(held_out)
    channels, categories = training.images.shape[1], len(training.categories)
    shape = preset_config(options.preset, options.resolution, channels, categories)
    fixed = {"max_images": 10**9, "seed": seed, "flip": options.flip}
    recipe = preset_recipe(options.resolution, len(training.labels), **variant.recipe | fixed)
    gan = GanConfig(**vars(shape) | variant.gan)
    recipe = _bounded(gan, recipe, training, name)
    state = _trained(gan, recipe, training)
    images = generate_matching(state.ema, held_out)
    return state.images, evaluate_images(photos, images, photos.held_out.labels)


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


def show(name: str, images: int, score: Evaluation) -> None:
    """Print one line of progress."""
    kid, fd = score.kid_cnn, _known(score.fd_cnn)
    print(
        f"{name:<36} {images:>8} images  kid_cnn {kid.value:.3f} ({kid.low:.3f}-{kid.high:.3f})"
        f"  fd_cnn {fd:.2f}  recall {score.recall:.3f}  coverage {score.coverage:.3f}",
        flush=True,
    )


def _known(value: float | None) -> float:
    """NaN for a distance that was not computed, as there are too few photos."""
    return nan if value is None else value


if __name__ == "__main__":
    main()
