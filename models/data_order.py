"""Which images a training step shows, as a function of (seed, images shown so far) alone.

A training that goes on from a saved state therefore shows what it would have shown.

Shapes: N batch, C image channels, R resolution in pixels.
"""

import torch
from torch import Tensor

from models.datasets import Dataset
from models.sample import to_float


def seeded(seed: int, index: int, stream: int = 0) -> torch.Generator:
    """A generator that is a function of its arguments, decorrelated by SplitMix64's finaliser."""
    mask = 2**64 - 1
    x = seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB
    x &= mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return torch.Generator().manual_seed((x ^ (x >> 31)) >> 1)


class DataOrder:
    """Epoch after epoch in a fresh order; a batch may span two of them.

    An epoch shows each image once. Where `balanced`, it shows each category equally often instead:
    the images of smaller categories return until they are as many as those of the largest.
    """

    def __init__(
        self, dataset: Dataset, *, flip: bool, balanced: bool, seed: int, device: torch.device
    ) -> None:
        # There whole, as bytes: a batch that is picked on a GPU need not cross the bus.
        self._images, self._labels = dataset.images.to(device), dataset.labels.to(device)
        self.flip = flip  # mirror half of the images
        self.seed = seed
        groups = [
            torch.nonzero(dataset.labels == label).flatten() for label in dataset.labels.unique()
        ]
        largest = max(len(group) for group in groups)
        self._groups = groups
        self._repeats = [-(-largest // len(group)) if balanced else 1 for group in groups]
        self._largest = largest
        self._epoch_size = largest * len(groups) if balanced else len(dataset.labels)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, start: int, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images (N, C, R, R) float32 in [-1, 1] and labels (N,) after `start` shown ones."""
        indices = self._indices(start, start + size).to(self._images.device)
        images = to_float(self._images[indices])
        if self.flip:
            mirrored = (torch.rand(size, generator=random) < 0.5).to(images.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last), self._labels[indices]

    def _indices(self, start: int, stop: int) -> Tensor:
        """Positions `start` to `stop` of the endless row of epochs."""
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self._epoch_size)
            length = min(stop - start, self._epoch_size - offset)
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self._shuffled(epoch)
            parts.append(self._order[offset : offset + length])
            start += length
        return torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        random = seeded(self.seed, epoch, stream=1)
        drawn = []
        for group, repeats in zip(self._groups, self._repeats, strict=True):
            rounds = [group[torch.randperm(len(group), generator=random)] for _ in range(repeats)]
            drawn.append(torch.cat(rounds)[: self._largest])
        indices = torch.cat(drawn)
        return indices[torch.randperm(len(indices), generator=random)]
