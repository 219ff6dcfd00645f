"""Classification accuracy score (CAS): what a classifier learns from generated images alone.

Paper: "Classification Accuracy Score for Conditional Generative Models" - Ravuri and Vinyals, 2019
(https://arxiv.org/abs/1905.10887).
"""

import math
import time
from dataclasses import dataclass, replace

from models.data.datasets import Dataset
from models.evaluation.feature_extractor import fit_steps
from models.evaluation.generation import (
    FEWEST_IMAGES,
    FIRST_SEED,
    generate_steps,
    images_within,
)
from models.networks.classifier import Classifier, ClassifierConfig, accuracy
from models.networks.gan import Generator
from models.progress import Steps, scaled


@dataclass(frozen=True)
class ClassificationAccuracy:
    """CAS, and what its classifier was fitted on."""

    score: float  # accuracy on the held-out photos, in [0, 1]
    images: int
    epochs: float


def classification_accuracy(
    generator: Generator,
    training: Dataset,
    held_out: Dataset,
    config: ClassifierConfig,
    seconds: float = math.inf,
) -> Steps[ClassificationAccuracy]:
    """Fit a classifier on one image for each training photo, on fewer if `seconds` are too few."""
    until = time.monotonic() + seconds
    most = max(FEWEST_IMAGES, images_within(generator, seconds / 2))
    shown = training.select(training.spaced(most))
    first_seed = FIRST_SEED + 2**30
    images = yield from scaled(generate_steps(generator, shown, first_seed), 0.0, 0.5)
    shown = replace(shown, images=images)
    fitting = fit_steps(Classifier(config), shown, until - time.monotonic())
    network = yield from scaled(fitting, 0.5)
    score = accuracy(network, held_out.images, held_out.labels)
    return ClassificationAccuracy(score, len(shown.labels), network.config.epochs)
