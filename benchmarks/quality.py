"""python -m benchmarks.quality: our default recipe against others, at equal wall time.

Every variant trains the same number of seconds with each seed, in turn, on the same photos. It is
judged on photos that no training saw, in the features of a CNN fitted on the training part before
any GAN ran. `dcgan` is the baseline: batch norm in both networks, binary cross-entropy, Adam with
betas 0.5 and 0.999 and a rate of 2e-4, as published, with the same conditioning and EMA as ours.
`relativistic, R1 + R2` changes loss, penalties, norm and betas together; the others change one
ingredient of `default` each. The floor is training photos in place of images.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import machine
from models.datasets import Dataset
from models.evaluate import Evaluation, Photos, digest, fit_classifier, generate_like, judge
from models.gan import GanConfig, preset_config
from models.pretrain import load
from models.train import TrainConfig, initial_state, train

# Changes to the architecture, changes to the training.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "dcgan": ({"discriminator_norm": "batch"}, {"lr": 2e-4, "alpha": 0.5, "betas": (0.5, 0.999)}),
    "hinge": ({}, {"loss": "hinge"}),
    "relativistic": ({}, {"loss": "relativistic"}),
    "relativistic, R1 + R2": (
        {"discriminator_norm": "none"},
        {"loss": "relativistic", "gamma": 0.1, "penalty_every": 8, "betas": (0.0, 0.99)},
    ),
    "augmentation": ({}, {"augment_p": 0.2}),
    "batch of 32": ({}, {"batch_size": 32}),
    "no EMA": ({}, {"ema_half_life": 1e-3}),
}
FIELDS = ("fd_cnn", "fd_cnn_infinity", "precision", "recall", "coverage", "category_accuracy")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and print medians over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip of training photos")
    parser.add_argument("--resolution", type=int, choices=(28, 32, 64, 128), default=32)
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=float, default=1 / 6, help="share of the photos")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args(arguments)

    training, held_out = split(load(options.archive, options.resolution)[0], options.held_out)
    extractor = fit_classifier(training)
    photos = Photos(extractor=extractor, test=held_out)
    count = len(held_out.labels)  # of training photos, which are in random order
    show("floor", 0, judge(photos, training.images[:count], training.labels[:count]))
    shape = preset_config(
        options.preset, options.resolution, training.images.shape[1], len(training.categories)
    )
    scores: dict[str, list[Evaluation]] = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        for name in options.variants:
            scores[name].append(run(name, seed, options.seconds, shape, training, photos))
    print(f"\nMedians of {options.seeds} seeds, {options.seconds:.0f} s each; {machine()}")
    print(f"{len(held_out.labels)} held-out photos; extractor {digest(extractor)[:8]}")
    for name, found in scores.items():
        kid = median(score.kid_cnn.value for score in found)
        values = [median(getattr(score, field) for score in found) for field in FIELDS]
        numbers = "  ".join(f"{f} {v:.3f}" for f, v in zip(FIELDS, values, strict=True))
        print(f"  {name:<22} kid_cnn {kid:.3f}  {numbers}")


def run(
    name: str, seed: int, seconds: float, shape: GanConfig, training: Dataset, photos: Photos
) -> Evaluation:
    """Train one variant and judge its EMA generator."""
    of_gan, of_training = VARIANTS[name]
    gan = GanConfig(**{**vars(shape), **of_gan})
    config = TrainConfig(max_seconds=seconds, max_images=10**9, seed=seed, **of_training)
    state = initial_state(gan, config)
    for _ in train(state, training):
        pass
    evaluation = judge(photos, generate_like(state.ema, photos.test), photos.test.labels)
    show(f"{name}, seed {seed}", state.images, evaluation)
    return evaluation


def split(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """A training part, and a part that no training sees; always the same ones."""
    total = len(dataset.labels)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    count = round(total * share)
    held_out, training = (
        Dataset(images=dataset.images[i], labels=dataset.labels[i], categories=dataset.categories)
        for i in (order[:count], order[count:])
    )
    return training, held_out


def show(name: str, images: int, score: Evaluation) -> None:
    """One line of progress."""
    kid = score.kid_cnn
    print(
        f"{name:<32} {images:>8} images  kid_cnn {kid.value:.3f} ({kid.low:.3f}-{kid.high:.3f})"
        f"  fd_cnn {score.fd_cnn:.2f}  recall {score.recall:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
