"""Tiny real data and networks."""

import pytest
import torch

from models.datasets import Dataset


@pytest.fixture
def squares() -> Dataset:
    """48 grey 28 px images of two categories: a bright square on the left, or on the right."""
    images = torch.zeros(48, 1, 28, 28, dtype=torch.uint8)
    labels = torch.arange(48) % 2
    for index, label in enumerate(labels.tolist()):
        column = 2 + 12 * label
        images[index, :, 8:20, column : column + 12] = 255 - index
    return Dataset(images=images, labels=labels, categories=("left", "right"))
