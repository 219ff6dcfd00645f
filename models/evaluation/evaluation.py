"""Evaluation of a generator against held-out photos: Frechet distance, KID, recall, CAS, ...

The feature extractor is a CNN that is fitted on the training photos alone, before any image is
generated. Its distances are called `fd_cnn` and `kid_cnn`, since distances in the features of
different extractors cannot be compared. The floor is the same evaluation with training photos in
place of generated images. Generated images are uint8, from the EMA weights in eval mode with full
z, without selection or enhancement.

Long computations are progress generators; see `models.progress`.

Shapes: N images, C channels, R resolution in pixels, D features.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.data.datasets import Dataset
from models.evaluation.classification_accuracy import (
    ClassificationAccuracy,
    classification_accuracy,
)
from models.evaluation.feature_extractor import digest
from models.evaluation.generation import (
    FEWEST_IMAGES,
    FIRST_SEED,
    generate_matching,
    generate_steps,
    generation_speed,
    images_within,
)
from models.evaluation.memorisation import Memorisation, memorisation, neighbour_sheet
from models.evaluation.metrics import (
    Estimate,
    diversity,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    overlap,
)
from models.networks.classifier import (
    Classifier,
    accuracy,
    features_of,
    seconds_per_step,
)
from models.networks.gan import Generator
from models.progress import Steps, scaled

QUICK_SEED = 2**41  # used during training, so that the final metrics come from other images
QUICK_PHOTOS = 1000  # photos at most, for the metrics during a training
COLLAPSED = 0.5  # of the photos' diversity; below it, a generator counts as collapsed
FEATURE_BATCH = 2000  # photos between two progress reports
HELD_OUT_SHARE = 0.3  # of a limited time, for the images that are compared with held-out photos
SECONDS_PER_PAIR = 5e-8  # of images that the metrics compare, on two CPU cores


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of images against held-out photos, in one extractor's features; see `metrics`."""

    images: int  # N, the same number of both
    fd_cnn: float | None  # None where there are no more images than features
    fd_cnn_infinity: float | None
    kid_cnn: Estimate
    precision: float
    recall: float
    density: float
    coverage: float
    diversity: float  # 1: as diverse as the photos; see `metrics.diversity`
    category_accuracy: float  # share that the extractor assigns to the requested category


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Training and held-out photos, with their features from one extractor."""

    extractor: Classifier
    training: Dataset
    held_out: Dataset
    training_features: Tensor  # (N, D)
    features: Tensor  # of the held-out photos, (N, D)

    def subsample(self, most: float = QUICK_PHOTOS) -> "EvaluationSet":
        """This set with at most `most` held-out photos."""
        chosen = self.held_out.spaced(most)
        held_out = self.held_out.select(chosen)
        return replace(self, held_out=held_out, features=self.features[chosen])


@dataclass(frozen=True, kw_only=True)
class Report:
    """All evaluation results of a model; two reports compare only if their `protocol` is equal."""

    protocol: dict[str, str | int | float]
    model: Evaluation
    floor: Evaluation | None  # None where there are fewer training than held-out photos
    memorisation: Memorisation
    extractor_accuracy: float  # on the held-out photos
    # Accuracy on the held-out photos of a CNN fitted on generated images alone; compare with
    # `extractor_accuracy`, of the same CNN fitted on photos.
    cas: float


def extract_features(
    extractor: Classifier, training: Dataset, held_out: Dataset
) -> Steps[EvaluationSet]:
    """Compute the features of all photos, once."""
    parts = []
    for start in range(0, len(training.labels), FEATURE_BATCH):
        yield start / len(training.labels)
        parts.append(features_of(extractor, training.images[start : start + FEATURE_BATCH]))
    return EvaluationSet(
        extractor=extractor,
        training=training,
        held_out=held_out,
        training_features=torch.cat(parts),
        features=features_of(extractor, held_out.images),
    )


def evaluate_images(photos: EvaluationSet, images: Tensor, labels: Tensor) -> Evaluation:
    """Compare N uint8 images (N, C, R, R) that should show `labels` with the N held-out photos."""
    count = len(photos.held_out.labels)
    if len(images) != count:
        raise ValueError(f"{count} images are needed, as many as photos; got {len(images)}")
    return _compare(photos, images, features_of(photos.extractor, images), labels)


def _compare(photos: EvaluationSet, images: Tensor, fake: Tensor, labels: Tensor) -> Evaluation:
    """`evaluate_images`, for images whose features (N, D) are already computed."""
    real, count = photos.features, len(images)
    enough = count > real.shape[1] + 1
    shared = overlap(real, fake)
    return Evaluation(
        images=count,
        fd_cnn=frechet_distance(real, fake) if enough else None,
        fd_cnn_infinity=frechet_distance_at_infinity(real, fake) if enough else None,
        kid_cnn=kernel_distance(real, fake),
        precision=shared.precision,
        recall=shared.recall,
        density=shared.density,
        coverage=shared.coverage,
        diversity=diversity(real, fake, photos.held_out.labels, labels),
        category_accuracy=accuracy(photos.extractor, images, labels),
    )


def evaluate(
    generator: Generator, photos: EvaluationSet, seconds: float = math.inf
) -> Steps[tuple[Report, bytes]]:
    """The report of a model and its floor, and a PNG sheet of the nearest training photos.

    Where `seconds` are too few, fewer images are compared, and CAS is that of a CNN that has seen
    fewer images; the report's protocol has the numbers.
    """
    until = time.monotonic() + seconds
    most = images_within(generator, HELD_OUT_SHARE * seconds)
    photos = photos.subsample(max(FEWEST_IMAGES, most))
    held_out, training = photos.held_out, photos.training
    fakes = yield from scaled(generate_steps(generator, held_out), 0.0, 0.1)
    fake_features = features_of(photos.extractor, fakes)
    model = _compare(photos, fakes, fake_features, held_out.labels)
    yield 0.2
    floor = _floor(photos)
    yield 0.3
    repeats = memorisation(photos.training_features, photos.features, fake_features)
    sheet = neighbour_sheet(training.images, photos.training_features, fakes, fake_features)
    yield 0.4
    config, left_s = photos.extractor.config, until - time.monotonic()
    fitting = classification_accuracy(generator, training, held_out, config, left_s)
    cas = yield from scaled(fitting, 0.4)
    report = Report(
        protocol=_protocol(photos, cas),
        model=model,
        floor=floor,
        memorisation=repeats,
        extractor_accuracy=accuracy(photos.extractor, held_out.images, held_out.labels),
        cas=cas.score,
    )
    return report, sheet


def _protocol(photos: EvaluationSet, cas: ClassificationAccuracy) -> dict[str, str | int | float]:
    """What the numbers of a report depend on, beside the model."""
    config = photos.extractor.config
    return {
        "extractor": "cnn",
        "extractor_sha256": digest(photos.extractor),
        "extractor_epochs": config.epochs,
        "features": config.features,
        "held_out_images": len(photos.held_out.labels),
        "training_images": len(photos.training.labels),
        "cas_images": cas.images,
        "cas_epochs": cas.epochs,
        "first_seed": FIRST_SEED,
        "images": "uint8 of the EMA weights, full z, nothing selected or enhanced",
    }


def evaluation_seconds(generator: Generator, photos: EvaluationSet) -> float:
    """Expected duration of `evaluate` without a limit, on this machine."""
    held_out, training = len(photos.held_out.labels), len(photos.training.labels)
    config = photos.extractor.config
    steps = config.epochs * training / min(config.batch_size, training)
    return (
        (held_out + training) / generation_speed(generator)
        + steps * seconds_per_step(photos.extractor, photos.training)
        + SECONDS_PER_PAIR * held_out * (held_out + training)
    )


def quick_metrics(generator: Generator, photos: EvaluationSet) -> dict[str, float]:
    """A few cheap metrics for use during training; `collapsed` is 1 on mode collapse, else 0."""
    labels = photos.held_out.labels
    real = photos.features
    fake = features_of(photos.extractor, generate_matching(generator, photos.held_out, QUICK_SEED))
    shared = overlap(real, fake)
    spread = diversity(real, fake, labels, labels)
    return {
        "kid_cnn": kernel_distance(real, fake).value,
        "precision": shared.precision,
        "recall": shared.recall,
        "coverage": shared.coverage,
        "diversity": spread,
        "collapsed": float(spread < COLLAPSED),
    }


def some_training_photos(photos: EvaluationSet) -> Dataset:
    """A random subset of the training photos, as many as are held out, or all if fewer."""
    training, count = photos.training, len(photos.held_out.labels)
    drawn = torch.randperm(len(training.labels), generator=torch.Generator().manual_seed(0))[:count]
    return training.select(drawn)


def _floor(photos: EvaluationSet) -> Evaluation | None:
    """The evaluation of training photos in place of generated ones; None if there are too few."""
    drawn = some_training_photos(photos)
    if len(drawn.labels) < len(photos.held_out.labels):
        return None
    return evaluate_images(photos, drawn.images, drawn.labels)
