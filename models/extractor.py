"""The CNN as the eye of the metrics: fitted on training photos, frozen, known by its digest.

Shapes: N images.
"""

import hashlib
import math

import torch

from models.classifier import Classifier, ClassifierConfig, fit
from models.datasets import Dataset
from models.split import FEWEST_HELD_OUT
from models.steps import Steps

FIT_IMAGES = 180_000  # shown to the CNN, in at most MOST_EPOCHS
MOST_EPOCHS = 30


def fit_extractor(training: Dataset, judged: int, seed: int = 0) -> Steps[Classifier]:
    """The CNN that gives the features in which `judged` photos are compared with as many images."""
    if judged < FEWEST_HELD_OUT:
        raise ValueError(f"{FEWEST_HELD_OUT} held-out photos are needed; got {judged}")
    epochs = math.ceil(FIT_IMAGES / len(training.labels))
    config = ClassifierConfig(
        resolution=training.images.shape[2],
        channels=training.images.shape[1],
        categories=len(training.categories),
        # A covariance needs more images than features: half as many features, as a power of two.
        features=min(256, 2 ** int(math.log2(judged / 2))),
        epochs=min(epochs, MOST_EPOCHS),
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(config)
    return (yield from fitted(network, training))


def fitted(network: Classifier, dataset: Dataset) -> Steps[Classifier]:
    """`classifier.fit` as steps."""
    for progress in fit(network, dataset):
        yield progress.fraction
    return network


def digest(network: Classifier) -> str:
    """SHA-256 of the weights: numbers compare only where it is the same."""
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
