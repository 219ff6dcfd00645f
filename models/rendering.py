"""What becomes of a sampled image on its way to a client: enhanced, scaled, encoded.

Shapes: R resolution in pixels, C image channels; pixels are uint8 [0, 255].
"""

from dataclasses import dataclass

from models.images import (
    UNCHANGED,
    Enhancement,
    ImageFormat,
    Pixels,
    Provenance,
    encode,
    enhance,
    resize,
)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How images are to look and be packed."""

    enhancement: Enhancement = UNCHANGED
    side: int | None = None  # px; None: the model's own
    image_format: ImageFormat = "png"
    compression: int = 85  # quality, 0 to 100, of all formats but PNG


def render(pixels: Pixels, rendering: Rendering, provenance: Provenance) -> bytes:
    """(R, R, C) to a file that says what made it, the same bytes each time."""
    pixels = enhance(pixels, rendering.enhancement)
    if rendering.side is not None:
        pixels = resize(pixels, (rendering.side, rendering.side))
    return encode(
        pixels,
        rendering.image_format,
        compression=rendering.compression,
        provenance=provenance,
    )
