"""Sampling: seeds and categories to uint8 images, each a function of its own seed alone.

Shapes: N images, Z latent, C channels, R resolution in pixels.
"""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.gan import Generator
from models.networks.pixel_range import to_uint8

MAX_SEED = 2**63 - 1


def even_label(seed: int, categories: int) -> int:
    """The category of a request that names none; consecutive seeds cycle through all of them."""
    return seed % categories


@torch.inference_mode()
def sample_batch(
    generator: Generator, seeds: Sequence[int], labels: Sequence[int], batch_size: int = 250
) -> Tensor:
    """uint8 images (N, C, R, R) for evaluation; batched, so bits may differ from `sample`'s.

    z is full (truncation 1); the generator must be in eval mode.
    """
    device = generator.stem.weight.device
    z = latents(seeds, generator.config.z_dim)
    parts = zip(z.split(batch_size), torch.tensor(labels).split(batch_size), strict=True)
    return torch.cat(
        [to_uint8(generator(part.to(device), to.to(device))).cpu() for part, to in parts]
    )


def latents(seeds: Sequence[int], z_dim: int, truncation: float = 1.0) -> Tensor:
    """The z of each seed, float32 (N, Z), standard normal; `truncation` in (0, 1] scales them.

    Drawn on the CPU, and so equal for any device. Each seed is the key of its own Philox generator:
    PyTorch's CPU generator has only 2^32 streams, so that a million seeds have 116 collisions.

    Paper: "Parallel random numbers: as easy as 1, 2, 3" - Salmon et al., 2011
    (https://doi.org/10.1145/2063384.2063405).
    """
    z = np.empty((len(seeds), z_dim), dtype=np.float32)
    for row, seed in zip(z, seeds, strict=True):
        _stream.begin(seed).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(z) * truncation


class _Stream(threading.local):
    """One random generator per thread: creating one takes longer than drawing a z."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._philox)
        self._start = self._philox.state

    def begin(self, seed: int) -> np.random.Generator:
        """Reset the generator to the beginning of a seed's stream and return it."""
        self._start["state"]["key"][0] = seed
        self._philox.state = self._start
        return self._generator


_stream = _Stream()


def sample(
    generator: Generator, seeds: Sequence[int], labels: Sequence[int], truncation: float = 1.0
) -> NDArray[np.uint8]:
    """Images (N, R, R, C) of an eval-mode generator, one at a time; see `latents`."""
    z = latents(seeds, generator.config.z_dim, truncation)
    return one_by_one(generator, z, torch.tensor(labels))


@torch.inference_mode()
def one_by_one(generator: Generator, z: Tensor, labels: Tensor) -> NDArray[np.uint8]:
    """Images (N, R, R, C) of z (N, Z) and labels (N,), which may lie on another device.

    In a larger batch the convolution library may use other blockings, and the last bits of an image
    would depend on the rest of the batch.
    """
    device = generator.stem.weight.device
    pairs = zip(z.to(device).split(1), labels.to(device).split(1), strict=True)
    images = [to_uint8(generator(*pair))[0].permute(1, 2, 0).cpu().numpy() for pair in pairs]
    return np.stack(images)
