"""Feature extractor of the metrics: a CNN fitted on training photos, identified by a digest.

Shapes: N images.
"""

import hashlib
import math

import torch

from models.data.datasets import Dataset
from models.data.split import FEWEST_HELD_OUT
from models.networks.classifier import Classifier, ClassifierConfig, fit
from models.progress import Steps

FIT_IMAGES = 180_000  # shown to the CNN, in at most MOST_EPOCHS
MOST_EPOCHS = 30


def fit_extractor(
    training: Dataset, held_out_count: int, seed: int = 0, seconds: float = math.inf
) -> Steps[Classifier]:
    """Fit the CNN whose features compare `held_out_count` photos with as many images.

    It is fitted for fewer epochs where more do not fit into `seconds`.
    """
    if held_out_count < FEWEST_HELD_OUT:
        raise ValueError(f"{FEWEST_HELD_OUT} held-out photos are needed; got {held_out_count}")
    epochs = math.ceil(FIT_IMAGES / len(training.labels))
    config = ClassifierConfig(
        resolution=training.images.shape[2],
        channels=training.images.shape[1],
        categories=len(training.categories),
        # A covariance needs more images than features: half as many features, as a power of two.
        features=min(256, 2 ** int(math.log2(held_out_count / 2))),
        epochs=min(epochs, MOST_EPOCHS),
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(config)
    for progress in fit(network, training, seconds):
        yield progress.fraction
    return network


def digest(network: Classifier) -> str:
    """SHA-256 of the weights; metrics compare only where it is equal."""
    sha = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        sha.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
