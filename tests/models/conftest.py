"""Tiny real data and networks."""

import pytest
import torch

from models.data.datasets import Dataset
from models.data.split import split
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos
from models.evaluation.extractors import CnnExtractor
from models.evaluation.feature_extractor import fit_extractor
from models.progress import run


@pytest.fixture
def squares() -> Dataset:
    """48 grey 28 px images of two categories: a bright square on the left, or on the right."""
    images = torch.zeros(48, 1, 28, 28, dtype=torch.uint8)
    labels = torch.arange(48) % 2
    for index, label in enumerate(labels.tolist()):
        column = 2 + 12 * label
        images[index, :, 8:20, column : column + 12] = 255 - index
    return Dataset(images=images, labels=labels, categories=("left", "right"))


@pytest.fixture(scope="session")
def photos() -> EvaluationSet:
    """Images with a bright left or right half, 60 of each, and their features from a CNN."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (120, 1, 28, 28), generator=random)
    images[::2, ..., :14] += 180
    images[1::2, ..., 14:] += 180
    dataset = Dataset(
        images=images.to(torch.uint8), labels=torch.arange(120) % 2, categories=("left", "right")
    )
    training, held_out = split(dataset)
    assert held_out is not None
    extractor = CnnExtractor(run(fit_extractor(training, len(held_out.labels))))
    return run(look_at_photos(extractor, training, held_out))


@pytest.fixture
def quick_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure speeds and latencies in a few steps, for tests that do not check them."""
    monkeypatch.setattr("models.search.equal_time.WARM_UP_STEPS", 0)
    monkeypatch.setattr("models.search.equal_time.TIMED_STEPS", 2)
    monkeypatch.setattr("models.search.search.TIMED", 3)
