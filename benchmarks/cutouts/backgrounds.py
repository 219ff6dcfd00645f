"""Backgrounds for composites: of real photos, textured, like-coloured, light and dark.

Shapes: H height, W width; pixels are uint8 (H, W, 3).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.cutouts.studio import bounding_box
from models.imaging.pixels import Pixels, to_image, to_pixels

SMALLEST_STRIP = 40  # pixels
Rng = np.random.Generator
Floats = NDArray[np.float64]
Size = tuple[int, int]  # height, width


def real(rng: Rng, size: Size, strips: Sequence[Pixels]) -> Pixels:
    """A strip of a photo beside its product, mirrored until it fills the picture."""
    strip = strips[int(rng.integers(len(strips)))]
    rows, columns = (
        np.pad(np.arange(have), (0, max(0, want - have)), mode="symmetric")[:want]
        for have, want in zip(strip.shape, size, strict=False)
    )
    filled: Pixels = strip[rows][:, columns]
    return filled


def textured(rng: Rng, size: Size) -> Pixels:
    """A weave, a floor or a carpet: stripes across noise of one size, in two colours."""
    grain = _noise(rng, size, int(rng.choice([2, 4, 8, 16])))
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period) / 2 + 0.5
    share = np.clip(rng.uniform(0.2, 0.8) * waves + 0.8 * grain, 0, 1)[..., None]
    first, second = rng.uniform(20, 235, (2, 3))
    mixed: Pixels = (first * share + second * (1 - share)).astype(np.uint8)
    return mixed


def like_coloured(rng: Rng, size: Size, color: Floats) -> Pixels:
    """The product's own colour, a little lighter or darker, with a grain."""
    shift = rng.choice([-1, 1]) * rng.uniform(15, 35)
    return _lit(rng, size, color + shift, 10)


def light(rng: Rng, size: Size) -> Pixels:
    """White paper or a wall, lit unevenly."""
    return _lit(rng, size, rng.uniform(225, 250) + rng.uniform(-6, 6, 3), 4)


def dark(rng: Rng, size: Size) -> Pixels:
    """Black cloth, lit unevenly."""
    return _lit(rng, size, rng.uniform(10, 45) + rng.uniform(-6, 6, 3), 8)


PLAIN: dict[str, Callable[[Rng, Size], Pixels]] = {
    "textured": textured,
    "light": light,
    "dark": dark,
}


def strips_of(photo: Pixels, mask: Pixels) -> list[Pixels]:
    """The parts of a photo above, below, left and right of its product that are large enough."""
    left, top, right, bottom = bounding_box(mask)
    gap = 8  # the product's shadow
    found = [
        photo[: max(0, top - gap)],
        photo[bottom + gap :],
        photo[:, : max(0, left - gap)],
        photo[:, right + gap :],
    ]
    return [strip for strip in found if min(strip.shape[:2]) >= SMALLEST_STRIP]


def _lit(rng: Rng, size: Size, color: Floats, grain: float) -> Pixels:
    height, width = size
    slope = rng.uniform(-20, 20, 2)
    y, x = np.mgrid[:height, :width]
    light = slope[0] * (x / width - 0.5) + slope[1] * (y / height - 0.5)
    noise = grain * (2 * _noise(rng, size, int(rng.choice([1, 3]))) - 1)
    lit: Pixels = (color + (light + noise)[..., None]).clip(0, 255).astype(np.uint8)
    return lit


def _noise(rng: Rng, size: Size, grain: int) -> Floats:
    """Noise in [0, 1] of grains so many pixels large, (H, W)."""
    coarse = rng.integers(0, 256, (size[0] // grain + 2, size[1] // grain + 2, 1), dtype=np.uint8)
    fine = to_image(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return to_pixels(fine.filter(ImageFilter.GaussianBlur(0.5)))[..., 0] / 255
