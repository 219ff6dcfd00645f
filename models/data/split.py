"""Hold-out split: the part of a data set that is not trained on, for evaluation.

Whether a photo is held out is a function of all photos' pixels alone, not of their order or a seed.
The same photos are therefore held out in every job at one resolution, and nearly all of them still
are when photos are added to the data set.

Shapes: N images, C channels, R resolution in pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.data.datasets import Dataset

FEWEST_HELD_OUT = 6  # photos: one more than the neighbours that precision and recall use


@dataclass(frozen=True)
class Holdout:
    """How much is held out."""

    share: float  # of each category
    most: int  # photos; more would only make the evaluation slower


REPORTED = Holdout(0.1, 10_000)  # for the reported metrics of models
SEARCHED = Holdout(0.2, 5000)  # of the rest, to compare the candidates of a search


def held_out_sizes(sizes: Sequence[int], holdout: Holdout = REPORTED) -> list[int]:
    """Held-out photos per category, for categories of `sizes`; all 0 if too few to evaluate."""
    share = min(holdout.share, holdout.most / sum(sizes))
    held_out = [round(size * share) for size in sizes]
    if min(held_out) < 1 or sum(held_out) < FEWEST_HELD_OUT:
        return [0] * len(sizes)
    return held_out


def split(dataset: Dataset, holdout: Holdout = REPORTED) -> tuple[Dataset, Dataset | None]:
    """A training part, and a held-out part with the same share of every category.

    The second is None where it would lack a category or be too small for an evaluation.
    """
    chosen = held_out_photos(dataset, holdout)
    if not chosen.any():
        return dataset, None
    return dataset.select(~chosen), dataset.select(chosen)


def held_out_photos(dataset: Dataset, holdout: Holdout = REPORTED) -> Tensor:
    """Which photos `split` holds out, bool (N,); none where they would be too few."""
    groups = [
        torch.nonzero(dataset.labels == label).flatten().tolist()
        for label in range(len(dataset.categories))
    ]
    sizes = held_out_sizes([len(group) for group in groups], holdout)
    chosen = torch.zeros(len(dataset.labels), dtype=torch.bool)
    if not any(sizes):
        return chosen
    pixels = dataset.images.numpy()
    for group, size in zip(groups, sizes, strict=True):
        digests = {index: hashlib.sha256(pixels[index].tobytes()).digest() for index in group}
        chosen[sorted(group, key=digests.__getitem__)[:size]] = True
    return chosen
