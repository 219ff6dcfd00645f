"""Distance between the colours of two sets of images, of the products and of the backgrounds.

Colours are compared as distributions of pixels in CIE Lab by the sliced Wasserstein distance
("Wasserstein Barycenter and Its Application to Texture Mixing" - Rabin et al., 2011,
https://doi.org/10.1007/978-3-642-24785-9_37), so that its unit is the colour difference itself.

Shapes: N images, R resolution in pixels, P pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.imaging.lab import to_lab

PIXELS = 30_000  # of a part and set
DIRECTIONS = 64
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ColorDistance:
    """Mean distances in Lab units; 0 if equal, None where a set shows no such part."""

    product: float | None
    background: float | None


def color_distance(
    real: Tensor, fake: Tensor, real_masks: Tensor, fake_masks: Tensor, *, seed: int = 0
) -> ColorDistance:
    """Compare uint8 images (N, 3, R, R) and (M, 3, R, R), whose masks (., R, R) show products.

    Masks are bool. Deterministic for a seed.
    """
    parts = []
    for inverted in (False, True):
        colors = _colors(real, real_masks ^ inverted, seed)
        others = _colors(fake, fake_masks ^ inverted, seed)
        parts.append(_distance(colors, others, seed) if len(colors) and len(others) else None)
    return ColorDistance(*parts)


def _colors(images: Tensor, masks: Tensor, seed: int) -> Floats:
    """Lab colours (P, 3) of at most `PIXELS` pixels inside the masks, drawn at random."""
    inside = images.permute(0, 2, 3, 1)[masks].numpy()
    if len(inside) > PIXELS:
        inside = inside[np.random.default_rng(seed).integers(len(inside), size=PIXELS)]
    return to_lab(inside)


def _distance(real: Floats, fake: Floats, seed: int) -> float:
    """Twice the sliced Wasserstein distance of (P, 3) and (Q, 3): |d| if all colours shift by d.

    The directions of space project a shift to half its length on average.
    """
    directions = np.random.default_rng(seed).standard_normal((3, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    shares = np.linspace(0, 1, 1001)
    quantiles = [np.quantile(colors @ directions, shares, axis=0) for colors in (real, fake)]
    return 2 * float(np.abs(quantiles[0] - quantiles[1]).mean())
