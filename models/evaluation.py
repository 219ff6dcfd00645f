"""How good a generator is, judged by photos that no training saw.

The CNN that gives the features is fitted on the training photos alone, before any generated image
exists; its distances are called `fd_cnn` and `kid_cnn`, since they compare with no other
extractor's. Beside the model stands the floor: as many training photos in place of generated ones.
Scored are uint8 images of the EMA weights in eval mode, full z, nothing selected or enhanced.

What takes long is a generator that yields the done share in [0, 1] and returns its result.

Shapes: N images, C channels, R resolution in pixels, D features.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.classifier import Classifier, ClassifierConfig, accuracy, features_of
from models.datasets import Dataset
from models.extractor import digest, fitted
from models.gan import Generator
from models.memorisation import Memorisation, memorisation, neighbour_sheet
from models.metrics import (
    Estimate,
    diversity,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    overlap,
)
from models.sample import sample_batch
from models.steps import Steps, run, scaled

# Far above any seed that a person types, so that no scored z was looked at before.
FIRST_SEED = 2**40
LOOK_SEED = 2**41  # of other images: what is looked at while training is not what is scored
LOOKED_AT = 1000  # photos at most, for numbers while a training goes on
COLLAPSED = 0.5  # of the photos' diversity; below, the alarm rings
AT_ONCE = 2000  # photos looked at between two signs of life
GENERATED_AT_ONCE = 250  # images; a large generator takes seconds for them on a CPU


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Images against held-out photos, in the features of one extractor; see `models.metrics`."""

    images: int  # N, the same number of both
    fd_cnn: float | None  # None where there are no more images than features
    fd_cnn_infinity: float | None
    kid_cnn: Estimate
    precision: float
    recall: float
    density: float
    coverage: float
    diversity: float  # 1: as the photos; see `metrics.diversity`
    category_accuracy: float  # share that the extractor assigns to the wanted category


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The photos a model is judged by, seen through one extractor."""

    extractor: Classifier
    training: Dataset
    held_out: Dataset
    training_features: Tensor  # (N, D)
    features: Tensor  # of the held-out photos, (N, D)

    def fewer(self) -> "Photos":
        """As many of the held-out photos as a quick look takes, evenly from all of them."""
        step = -(-len(self.held_out.labels) // LOOKED_AT)
        images, labels = self.held_out.images[::step], self.held_out.labels[::step]
        held_out = replace(self.held_out, images=images, labels=labels)
        return replace(self, held_out=held_out, features=self.features[::step])


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is said of one model; `protocol` is what must be equal to compare two."""

    protocol: dict[str, str | int]
    model: Evaluation
    floor: Evaluation | None  # None where there are fewer training than held-out photos
    memorisation: Memorisation
    extractor_accuracy: float  # on the held-out photos
    # A CNN that saw generated images alone, on the held-out photos: read it against
    # `extractor_accuracy`, the same CNN fitted on photos.
    cas: float


def see(extractor: Classifier, training: Dataset, held_out: Dataset) -> Steps[Photos]:
    """Look at the photos once, through the extractor."""
    parts = []
    for start in range(0, len(training.labels), AT_ONCE):
        yield start / len(training.labels)
        parts.append(features_of(extractor, training.images[start : start + AT_ONCE]))
    return Photos(
        extractor=extractor,
        training=training,
        held_out=held_out,
        training_features=torch.cat(parts),
        features=features_of(extractor, held_out.images),
    )


def judge(photos: Photos, images: Tensor, labels: Tensor) -> Evaluation:
    """Compare N uint8 images (N, C, R, R) that should show `labels` with the N held-out photos."""
    count = len(photos.held_out.labels)
    if len(images) != count:
        raise ValueError(f"{count} images are needed, as many as photos; got {len(images)}")
    return _compare(photos, images, features_of(photos.extractor, images), labels)


def _compare(photos: Photos, images: Tensor, fake: Tensor, labels: Tensor) -> Evaluation:
    """`judge`, of images whose features (N, D) are known."""
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


def evaluate(generator: Generator, photos: Photos) -> Steps[tuple[Report, bytes]]:
    """All numbers of one model, the floor beside them, and the sheet of `models.memorisation`."""
    held_out, training = photos.held_out, photos.training
    fakes = yield from scaled(generated(generator, held_out), 0.0, 0.1)
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


def look(generator: Generator, photos: Photos) -> dict[str, float]:
    """A few cheap numbers while a training goes on; `collapsed` is 1 where the alarm rings."""
    labels = photos.held_out.labels
    real = photos.features
    fake = features_of(photos.extractor, generate_like(generator, photos.held_out, LOOK_SEED))
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


def some_training_photos(photos: Photos) -> Dataset:
    """As many training photos as are held out, or all where there are fewer."""
    training, count = photos.training, len(photos.held_out.labels)
    drawn = torch.randperm(len(training.labels), generator=torch.Generator().manual_seed(0))[:count]
    return replace(training, images=training.images[drawn], labels=training.labels[drawn])


def _floor(photos: Photos) -> Evaluation | None:
    """Training photos in place of generated ones."""
    drawn = some_training_photos(photos)
    if len(drawn.labels) < len(photos.held_out.labels):
        return None
    return judge(photos, drawn.images, drawn.labels)


def generated(
    generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED
) -> Steps[Tensor]:
    """One image (N, C, R, R) for each photo of `dataset`, of the same category."""
    labels, parts = dataset.labels, []
    for start in range(0, len(labels), GENERATED_AT_ONCE):
        yield start / len(labels)
        chosen = labels[start : start + GENERATED_AT_ONCE].tolist()
        first = first_seed + start
        parts.append(sample_batch(generator, range(first, first + len(chosen)), chosen))
    return torch.cat(parts)


def generate_like(generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED) -> Tensor:
    """`generated`, without the steps."""
    return run(generated(generator, dataset, first_seed))


def classification_accuracy_score(
    generator: Generator, photos: Photos, config: ClassifierConfig
) -> Steps[float]:
    """CAS: how well a classifier that saw generated images alone knows the held-out photos.

    Paper: "Classification Accuracy Score for Conditional Generative Models" - Ravuri and Vinyals,
    2019 (https://arxiv.org/abs/1905.10887). It sees one image for each training photo.
    """
    first_seed = FIRST_SEED + 2**30
    images = yield from scaled(generated(generator, photos.training, first_seed), 0.0, 0.5)
    shown = replace(photos.training, images=images)
    network = yield from scaled(fitted(Classifier(config), shown), 0.5)
    return accuracy(network, photos.held_out.images, photos.held_out.labels)
