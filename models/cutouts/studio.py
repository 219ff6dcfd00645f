"""Studio photos: a product cut out by its mask, centred on one colour, filling most of the square.

The edge takes its colours from the product alone, not from the background that it is mixed with.
Paper: "Approximate Fast Foreground Colour Estimation" - Forte, 2021 (ICIP, blur fusion,
https://doi.org/10.1109/ICIP42928.2021.9506164). Ours differs: one pass, at the size of the
result, and mixed pixels count less.

Shapes: H height, W width, C image channels (1 grey, 3 sRGB), R side of the result.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

from models.cutouts.masks import OUTLINE
from models.imaging.pixels import Pixels, to_image, to_pixels

FILL = 0.88  # of the result's side, that the product's longer side takes
BLUR_SHARE = 1 / 16  # of the result's side: from how far the edge takes its colours
PURITY = 4  # power of the opacity that a pixel's colour counts with: mixed ones hardly do
FEW = 1e-6  # of weight: no colour to take
Color = tuple[int, int, int]
Floats = NDArray[np.float32]

WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class _Frame:
    """The square of a photo that the result shows, in pixels of the photo; it may reach beyond."""

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, mask: Pixels) -> "_Frame":
        """The product in the middle, its longer side taking `FILL` of the frame's."""
        left, top, right, bottom = bounding_box(mask)
        side = max(right - left, bottom - top) / FILL
        return cls((left + right - side) / 2, (top + bottom - side) / 2, side)

    def resampled(self, pixels: Pixels, resolution: int, *, is_mask: bool = False) -> Pixels:
        """(H, W, C) to (R, R, C); beyond its border a photo goes on, and a mask is empty."""
        height, width, _ = pixels.shape
        right, bottom = self.left + self.side - width, self.top + self.side - height
        pad = max(0, ceil(max(-self.left, -self.top, right, bottom)))
        ends = ((pad, pad), (pad, pad), (0, 0))
        padded = np.pad(pixels, ends) if is_mask else np.pad(pixels, ends, mode="edge")
        left, top = self.left + pad, self.top + pad
        # Sharp, but for masks, which must not ring, and products that have too few pixels.
        kernel = Resampling.LANCZOS if self.side > resolution else Resampling.BICUBIC
        if is_mask:
            kernel = Resampling.HAMMING if self.side > resolution else Resampling.BILINEAR
        box = (left, top, left + self.side, top + self.side)
        return to_pixels(to_image(padded).resize((resolution, resolution), kernel, box))


def studio_photo(
    image: Image.Image,
    mask: Pixels,
    resolution: int,
    *,
    channels: int,
    background: Color = WHITE,
) -> Pixels:
    """The product of an L or RGB photo on `background`, (R, R, C), undistorted.

    `mask` is (H, W, 1), 255 where the product is.

    Raises:
        ValueError: the mask is empty.
    """
    mode = "L" if channels == 1 else "RGB"
    frame = _Frame.around(mask)
    pixels = frame.resampled(to_pixels(image.convert(mode)), resolution)
    opacity = frame.resampled(mask, resolution, is_mask=True) * np.float32(1 / 255)
    color = _of_product(pixels.astype(np.float32), opacity)
    paper = to_pixels(Image.new("RGB", (1, 1), background).convert(mode))
    blended = color * opacity + paper * (1 - opacity)
    studio: Pixels = blended.round().clip(0, 255).astype(np.uint8)
    return studio


def bounding_box(mask: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the product; the last two are just outside.

    Raises:
        ValueError: the mask is empty.
    """
    opaque = mask[:, :, 0] >= OUTLINE
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    if not len(rows):
        raise ValueError("the mask is empty: there is no product to cut out")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _of_product(pixels: Floats, opacity: Floats) -> Floats:
    """The product's own colours F, (R, R, C), where the photo is I = alpha F + (1 - alpha) B."""
    radius = max(1, round(BLUR_SHARE * len(pixels)))
    inside, outside = opacity**PURITY, (1 - opacity) ** PURITY
    foreground = _blurred(pixels * inside, radius) / (_blurred(inside, radius) + FEW)
    background = _blurred(pixels * outside, radius) / (_blurred(outside, radius) + FEW)
    rest = pixels - opacity * foreground - (1 - opacity) * background
    color: Floats = (foreground + opacity * rest).clip(0, 255)
    return color


def _blurred(values: Floats, radius: int) -> Floats:
    """Sums over squares of 2 `radius` + 1 pixels, (R, R, C); beyond the border are zeros."""
    for axis in (0, 1):
        ends = [(0, 0)] * 3
        ends[axis] = (radius + 1, radius)
        sums = np.pad(values, ends).cumsum(axis)
        first, last = (
            np.take(sums, range(start, start + values.shape[axis]), axis)
            for start in (0, 2 * radius + 1)
        )
        values = last - first
    return values
