"""Data order (sampler): which images a training step shows.

It is a function of (seed, images shown so far) alone, so that a resumed training shows the same
images as an uninterrupted one.

Shapes: N batch, C image channels, R resolution in pixels.
"""

import torch
from torch import Tensor

from models.data.datasets import Dataset
from models.networks.pixel_range import to_float


def seeded(seed: int, index: int, stream: int = 0) -> torch.Generator:
    """A random generator seeded by the arguments, which SplitMix64's finaliser decorrelates."""
    mask = 2**64 - 1
    x = seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB
    x &= mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return torch.Generator().manual_seed((x ^ (x >> 31)) >> 1)


class DataOrder:
    """Draws batches in an order that is shuffled for each epoch; a batch may span two epochs.

    An epoch shows each image once. If `balanced`, it shows each category equally often instead:
    images of smaller categories are repeated until each category has as many as the largest.
    """

    def __init__(
        self, dataset: Dataset, *, flip: bool, balanced: bool, seed: int, device: torch.device
    ) -> None:
        # The whole data set is on the device, as uint8, so that batches need no transfer to a GPU.
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
        """Images (N, C, R, R) float32 in [-1, 1] and labels (N,) after the first `start` ones."""
        indices = self._indices(start, start + size).to(self._images.device)
        images = to_float(self._images[indices])
        if self.flip:
            mirrored = (torch.rand(size, generator=random) < 0.5).to(images.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last), self._labels[indices]

    def _indices(self, start: int, stop: int) -> Tensor:
        """Image indices at positions `start` to `stop` of the endless sequence of epochs."""
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
