"""Sliced Wasserstein distance over a Laplacian pyramid: textures and patterns, without a network.

Patches of each pyramid level are compared as distributions. It sees what networks trained on
photos overlook: checker patterns, lost sharpness, noise.

Paper: "Progressive Growing of GANs for Improved Quality, Stability, and Variation" - Karras et al.,
2018 (https://arxiv.org/abs/1710.10196), section 5. Ours differs: both sets are scaled by the real
patches' mean and deviation, so that a loss of contrast counts too.

Shapes: N images, C channels, R resolution in pixels, P patches, V values of a patch (C * 7 * 7).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.pixel_range import to_float

PATCH = 7  # px
SMALLEST_LEVEL = 16  # px, the side of the coarsest level
PATCHES = 16_384  # of a level and set
PATCHES_PER_IMAGE = 128
DIRECTIONS = 128  # random projections
# Binomial filter of the pyramid, (1, 4, 6, 4, 1) / 16.
FILTER = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def sliced_wasserstein(real: Tensor, fake: Tensor, *, seed: int = 0) -> dict[int, float]:
    """The distance at each level's side in pixels; uint8 images (N, C, R, R) and (M, C, R, R).

    In units of the real patches' standard deviation; at equal N and M only, since finite samples
    never reach 0. Deterministic for a seed.
    """
    random = torch.Generator().manual_seed(seed)
    distances = {}
    for level_real, level_fake in zip(_pyramid(real), _pyramid(fake), strict=True):
        patches_real = _patches(level_real, random)
        patches_fake = _patches(level_fake, random)
        count = min(len(patches_real), len(patches_fake))
        mean = patches_real.mean((0, 2), keepdim=True)
        deviation = patches_real.std((0, 2), keepdim=True).clamp(min=1e-6)
        scaled_real, scaled_fake = (
            ((patches[:count] - mean) / deviation).flatten(1)
            for patches in (patches_real, patches_fake)
        )
        distances[level_real.shape[2]] = _sliced_distance(scaled_real, scaled_fake, random)
    return distances


def _pyramid(images: Tensor) -> list[Tensor]:
    """Laplacian pyramid, the finest level first; the last one holds what remains."""
    levels, rest = [], to_float(images)
    while rest.shape[2] % 2 == 0 and rest.shape[2] // 2 >= SMALLEST_LEVEL:
        smaller = _smooth(rest)[:, :, ::2, ::2]
        larger = F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        levels.append(rest - larger)
        rest = smaller
    return [*levels, rest]


def _smooth(images: Tensor) -> Tensor:
    channels = images.shape[1]
    kernel = torch.outer(FILTER, FILTER).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def _patches(level: Tensor, random: torch.Generator) -> Tensor:
    """Random patches (P, C, 49) of a level (N, C, R, R), the same number of every image."""
    count, channels, side = level.shape[:3]
    each = max(1, min(PATCHES_PER_IMAGE, PATCHES // count))
    top, left = torch.randint(side - PATCH + 1, (2, count, each), generator=random)
    # Corner, then offsets within the patch: indices (N, each, 49) of the flattened image.
    offsets = (torch.arange(PATCH)[:, None] * side + torch.arange(PATCH)).flatten()
    places = (top * side + left)[..., None] + offsets
    flat = level.flatten(2).transpose(1, 2)  # (N, R * R, C)
    taken = flat[torch.arange(count)[:, None, None], places]  # (N, each, 49, C)
    return taken.flatten(0, 1).transpose(1, 2)


def _sliced_distance(real: Tensor, fake: Tensor, random: torch.Generator) -> float:
    """Mean distance (P, V) of sorted projections on random directions."""
    directions = F.normalize(torch.randn(real.shape[1], DIRECTIONS, generator=random), dim=0)
    ordered = [(patches @ directions).sort(0).values for patches in (real, fake)]
    return float((ordered[0] - ordered[1]).abs().mean())
