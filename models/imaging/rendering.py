"""Rendering: enhances, scales and encodes a sampled image for the client.

Shapes: R resolution in pixels, C image channels; pixels are uint8 [0, 255].
"""

from dataclasses import dataclass

from models.imaging.encoding import ImageFormat, Provenance, encode
from models.imaging.pixels import (
    UNCHANGED,
    Enhancement,
    Pixels,
    enhance,
    resize,
)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Enhancement, size and file format of rendered images."""

    enhancement: Enhancement = UNCHANGED
    side: int | None = None  # px; None: the model's own
    image_format: ImageFormat = "png"
    compression: int = 85  # quality, 0 to 100, of all formats but PNG


def render(pixels: Pixels, rendering: Rendering, provenance: Provenance) -> bytes:
    """(R, R, C) to an image file with its provenance, the same bytes each time."""
    pixels = enhance(pixels, rendering.enhancement)
    if rendering.side is not None:
        pixels = resize(pixels, (rendering.side, rendering.side))
    return encode(
        pixels,
        rendering.image_format,
        compression=rendering.compression,
        provenance=provenance,
    )
