"""Which images a training step shows, as a function of (seed, step) alone.

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
    """Each epoch a fresh permutation; a batch may span two of them."""

    def __init__(self, dataset: Dataset, *, batch_size: int, flip: bool, seed: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.flip = flip  # mirror half of the images
        self.seed = seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def batch(
        self, step: int, random: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Images (N, C, R, R) float32 in [-1, 1] and labels (N,) of step `step`."""
        indices = self._indices(step * self.batch_size, (step + 1) * self.batch_size)
        images = to_float(self.dataset.images[indices])
        if self.flip:
            mirrored = torch.rand(self.batch_size, generator=random) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        images = images.to(device, memory_format=torch.channels_last)
        return images, self.dataset.labels[indices].to(device)

    def _indices(self, start: int, stop: int) -> Tensor:
        """Positions `start` to `stop` of the endless row of permutations."""
        total = len(self.dataset.labels)
        parts = []
        while start < stop:
            epoch, offset = divmod(start, total)
            length = min(stop - start, total - offset)
            if epoch != self._epoch:
                generator = seeded(self.seed, epoch, stream=1)
                self._epoch, self._permutation = epoch, torch.randperm(total, generator=generator)
            parts.append(self._permutation[offset : offset + length])
            start += length
        return torch.cat(parts)
