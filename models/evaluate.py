"""python -m models.evaluate: judge a model on photos that it was not trained on.

    python -m models.evaluate --model model.safetensors --train train.zip --test test.zip

The CNN that gives the features is fitted here, on the training photos alone, before it sees any
generated image; its distances are called `fd_cnn` and `kid_cnn`, since they compare with no other
extractor's. Beside the model stands the floor: as many training photos in place of generated ones.
Scored are uint8 images of the EMA weights in eval mode, full z, nothing selected or enhanced.

Shapes: N images, C channels, R resolution in pixels, D features.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import load_model
from models.classifier import Classifier, ClassifierConfig, accuracy, features_of, fit
from models.datasets import Dataset
from models.gan import Generator
from models.metrics import (
    Estimate,
    authenticity,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    overlap,
)
from models.pretrain import load
from models.sample import sample_batch

logger = logging.getLogger("evaluate")

# Far above any seed that a person types, so that no scored z was looked at before.
FIRST_SEED = 2**40


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Images against the test photos, in the features of one extractor; see `models.metrics`."""

    images: int  # N, the same number of both
    fd_cnn: float
    fd_cnn_infinity: float
    kid_cnn: Estimate
    precision: float
    recall: float
    density: float
    coverage: float
    category_accuracy: float  # share that the extractor assigns to the wanted category


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The test photos, seen through one extractor."""

    extractor: Classifier
    test: Dataset

    @cached_property
    def features(self) -> Tensor:
        """Of the test photos, (N, D)."""
        return features_of(self.extractor, self.test.images)


def judge(photos: Photos, images: Tensor, labels: Tensor) -> Evaluation:
    """Compare N uint8 images (N, C, R, R) that should show `labels` with the N test photos."""
    count = len(photos.test.labels)
    if len(images) != count:
        raise ValueError(f"{count} images are needed, as many as test photos; got {len(images)}")
    real, fake = photos.features, features_of(photos.extractor, images)
    shared = overlap(real, fake)
    return Evaluation(
        images=count,
        fd_cnn=frechet_distance(real, fake),
        fd_cnn_infinity=frechet_distance_at_infinity(real, fake),
        kid_cnn=kernel_distance(real, fake),
        precision=shared.precision,
        recall=shared.recall,
        density=shared.density,
        coverage=shared.coverage,
        category_accuracy=accuracy(photos.extractor, images, labels),
    )


def generate_like(generator: Generator, dataset: Dataset, first_seed: int = FIRST_SEED) -> Tensor:
    """One image (N, C, R, R) for each photo of `dataset`, of the same category."""
    seeds = range(first_seed, first_seed + len(dataset.labels))
    return sample_batch(generator, seeds, dataset.labels.tolist())


def classification_accuracy_score(generator: Generator, train: Dataset, test: Dataset) -> float:
    """CAS: how well a classifier that saw generated images alone knows the real test photos.

    Paper: "Classification Accuracy Score for Conditional Generative Models" - Ravuri and Vinyals,
    2019 (https://arxiv.org/abs/1905.10887). It sees one image for each photo of `train`.
    """
    images = generate_like(generator, train, FIRST_SEED + 2**30)
    generated = Dataset(images=images, labels=train.labels, categories=train.categories)
    return accuracy(fit_classifier(generated), test.images, test.labels)


def fit_classifier(dataset: Dataset) -> Classifier:
    """The CNN, fitted on all of `dataset`."""
    config = ClassifierConfig(
        resolution=dataset.images.shape[2],
        channels=dataset.images.shape[1],
        categories=len(dataset.categories),
    )
    network = Classifier(config)
    for progress in fit(network, dataset):
        logger.info("CNN epoch %d, loss %.3f", progress.epoch + 1, progress.loss)
    return network


def digest(network: Classifier) -> str:
    """SHA-256 of the weights: numbers compare only where it is the same."""
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the numbers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors")
    parser.add_argument("--train", type=Path, required=True, help="zip it was trained on")
    parser.add_argument("--test", type=Path, required=True, help="zip it has never seen")
    options = parser.parse_args(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    model = load_model(options.model.read_bytes())
    resolution = model.generator.config.resolution
    (train, _), (test, _) = load(options.train, resolution), load(options.test, resolution)
    if not model.categories == train.categories == test.categories:
        parser.error("the model and both zips must have the same categories")
    sys.stdout.write(json.dumps(report(model.generator, train, test), indent=2) + "\n")


def report(generator: Generator, train: Dataset, test: Dataset) -> dict[str, object]:
    """All numbers of one model, the floor beside them."""
    extractor = fit_classifier(train)
    photos = Photos(extractor=extractor, test=test)
    fakes = generate_like(generator, test)
    drawn = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    drawn = drawn[: len(test.labels)]
    train_features = features_of(extractor, train.images)
    return {
        "extractor_sha256": digest(extractor),
        "extractor_test_accuracy": accuracy(extractor, test.images, test.labels),
        "model": asdict(judge(photos, fakes, test.labels)),
        "floor": asdict(judge(photos, train.images[drawn], train.labels[drawn])),
        "authenticity": authenticity(train_features, features_of(extractor, fakes)),
        "authenticity_of_test_photos": authenticity(train_features, photos.features),
        # To be read against extractor_test_accuracy, the same classifier fitted on photos.
        "cas": classification_accuracy_score(generator, train, test),
    }


if __name__ == "__main__":
    main()
