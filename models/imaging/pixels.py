"""Pixel arrays: conversion from and to Pillow images, resizing, and enhancement.

Shapes: H height, W width, C image channels (1 grey, 3 sRGB); pixels are uint8 [0, 255], (H, W, C).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from PIL.Image import Resampling

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Enhancement:
    """Factors in [0, 4]; 1 leaves the image as it is. `color` does nothing to grey images."""

    sharpness: float = 1.0
    contrast: float = 1.0
    color: float = 1.0
    brightness: float = 1.0

    def __post_init__(self) -> None:
        for name, factor in vars(self).items():
            if not 0 <= factor <= 4:
                raise ValueError(f"{name} must be in [0, 4]; got {factor}")


UNCHANGED = Enhancement()


def to_image(pixels: Pixels) -> Image.Image:
    """(H, W, C) to an L or RGB image."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: Image.Image) -> Pixels:
    """An L or RGB image to (H, W, C)."""
    return np.array(image, dtype=np.uint8).reshape(image.height, image.width, -1)


def resize(
    pixels: Pixels, size: tuple[int, int], kernel: Resampling = Resampling.LANCZOS
) -> Pixels:
    """(H, W, C) to `size` (width, height), antialiased; the same array if equal."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return to_pixels(to_image(pixels).resize(size, kernel))


def enhance(pixels: Pixels, enhancement: Enhancement) -> Pixels:
    """(H, W, C) to same: brightness, contrast, colour, then sharpness; factors of 1 do nothing.

    Returns the same array, not a copy, if all factors are 1.
    """
    if enhancement == UNCHANGED:
        return pixels
    image = to_image(pixels)
    for enhancer, factor in (
        (ImageEnhance.Brightness, enhancement.brightness),
        (ImageEnhance.Contrast, enhancement.contrast),
        (ImageEnhance.Color, enhancement.color),
        (ImageEnhance.Sharpness, enhancement.sharpness),
    ):
        image = image if factor == 1 else enhancer(image).enhance(factor)
    return to_pixels(image)
