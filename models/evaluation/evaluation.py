"""Evaluation of a generator against held-out photos: Frechet distance, KID, recall, CAS, ...

The feature extractor is a CNN that is fitted on the training photos alone, before any image is
generated. Its distances are called `fd_cnn` and `kid_cnn`, since distances in the features of
different extractors cannot be compared. The floor is the same evaluation with training photos in
place of generated images. Generated images are uint8, from the EMA weights in eval mode with full
z, without selection or enhancement.

Long computations are progress generators; see `models.progress`.

Shapes: N images, C channels, R resolution in pixels, D features.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.data.datasets import Dataset
from models.evaluation.feature_extractor import digest, fit_steps
from models.evaluation.memorisation import Memorisation, memorisation, neighbour_sheet
from models.evaluation.metrics import (
    Estimate,
    diversity,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    overlap,
)
from models.inference.sample import sample_batch
from models.networks.classifier import (
    Classifier,
    ClassifierConfig,
    accuracy,
    features_of,
)
from models.networks.gan import Generator
from models.progress import Steps, run, scaled

# Far above the seeds that users choose, so that no scored image was viewed before.
FIRST_SEED = 2**40
QUICK_SEED = 2**41  # used during training, so that the final metrics come from other images
QUICK_PHOTOS = 1000  # photos at most, for the metrics during a training
COLLAPSED = 0.5  # of the photos' diversity; below it, a generator counts as collapsed
FEATURE_BATCH = 2000  # photos between two progress reports
GENERATION_BATCH = 250  # images; a large generator takes seconds for them on a CPU


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

    def subsample(self) -> "EvaluationSet":
        """This set with at most `QUICK_PHOTOS` held-out photos, evenly spaced."""
        step = -(-len(self.held_out.labels) // QUICK_PHOTOS)
        images, labels = self.held_out.images[::step], self.held_out.labels[::step]
        held_out = replace(self.held_out, images=images, labels=labels)
        return replace(self, held_out=held_out, features=self.features[::step])


@dataclass(frozen=True, kw_only=True)
class Report:
    """All evaluation results of a model; two reports compare only if their `protocol` is equal."""

    protocol: dict[str, str | int]
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


def evaluate(generator: Generator, photos: EvaluationSet) -> Steps[tuple[Report, bytes]]:
    """The report of a model and its floor, and a PNG sheet of the nearest training photos."""
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
    config = photos.extractor.config
    cas = yield from scaled(classification_accuracy_score(generator, photos, config), 0.4)
    report = Report(
        protocol={
            "extractor": "cnn",
            "extractor_sha256": digest(photos.extractor),
            "features": config.features,
            "held_out_images": len(held_out.labels),
            "training_images": len(training.labels),
            "first_seed": FIRST_SEED,
            "images": "uint8 of the EMA weights, full z, nothing selected or enhanced",
        },
        model=model,
        floor=floor,
        memorisation=repeats,
        extractor_accuracy=accuracy(photos.extractor, held_out.images, held_out.labels),
        cas=cas,
    )
    return report, sheet


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
    return replace(training, images=training.images[drawn], labels=training.labels[drawn])


def _floor(photos: EvaluationSet) -> Evaluation | None:
    """The evaluation of training photos in place of generated ones; None if there are too few."""
    drawn = some_training_photos(photos)
    if len(drawn.labels) < len(photos.held_out.labels):
        return None
    return evaluate_images(photos, drawn.images, drawn.labels)


def generate_steps(
    generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED
) -> Steps[Tensor]:
    """Generate one image (N, C, R, R) for each photo of `dataset`, of the same category."""
    labels, parts = dataset.labels, []
    for start in range(0, len(labels), GENERATION_BATCH):
        yield start / len(labels)
        chosen = labels[start : start + GENERATION_BATCH].tolist()
        first = first_seed + start
        parts.append(sample_batch(generator, range(first, first + len(chosen)), chosen))
    return torch.cat(parts)


def generate_matching(
    generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED
) -> Tensor:
    """`generate_steps`, run to its end."""
    return run(generate_steps(generator, dataset, first_seed))


def classification_accuracy_score(
    generator: Generator, photos: EvaluationSet, config: ClassifierConfig
) -> Steps[float]:
    """CAS: accuracy on the held-out photos of a classifier fitted on generated images alone.

    Paper: "Classification Accuracy Score for Conditional Generative Models" - Ravuri and Vinyals,
    2019 (https://arxiv.org/abs/1905.10887). It is fitted on one image for each training photo.
    """
    first_seed = FIRST_SEED + 2**30
    images = yield from scaled(generate_steps(generator, photos.training, first_seed), 0.0, 0.5)
    shown = replace(photos.training, images=images)
    network = yield from scaled(fit_steps(Classifier(config), shown), 0.5)
    return accuracy(network, photos.held_out.images, photos.held_out.labels)
