"""Generated images on their way out: resize, enhance, encode with provenance, contact sheets.

Shapes: H height, W width, C image channels (1 grey, 3 sRGB); pixels are uint8 [0, 255], (H, W, C).
Uploaded photos on their way in are `models.photos`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, get_args
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from models.png import encode_png

ImageFormat = Literal["png", "jpeg", "webp", "avif"]
Pixels = NDArray[np.uint8]

MEDIA_TYPES: dict[ImageFormat, str] = {name: f"image/{name}" for name in get_args(ImageFormat)}
# Measured on the shipped models' images by python -m benchmarks.encode. In colour, WebP's method 0
# would be at most 1.3 times as fast as 2, for a seventh more bytes.
WEBP_METHOD = 2  # in colour 1.6 to 1.8 times the speed of the default 4, for 1 to 3 % more bytes
AVIF_SPEED = 10  # the fastest: 1.7 to 3 times the speed of 8, for 3 to 8 % more bytes
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# Bytes, since formatting and encoding text would take six times as long, for each image.
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:vitrine="urn:vitrine:provenance:1">
<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
<vitrine:model>%b</vitrine:model>
<vitrine:version>%d</vitrine:version>
<vitrine:seed>%d</vitrine:seed>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()
PAPER, INK = (255, 255, 255), (64, 64, 64)  # a contact sheet's background and its text
MAX_LABEL_TILES = 3  # a longer label is cut, with an ellipsis
FONT_SIZES = (11, 28)  # smallest and largest, in pixels


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made a generated image; written into its XMP."""

    model: str
    version: int
    seed: int

    def __post_init__(self) -> None:
        # A JPEG holds at most 64 kB of XMP; XML has no control characters.
        if not 0 < len(self.model) <= 200 or not self.model.isprintable():
            raise ValueError(f"model must be 1 to 200 printable characters; got {self.model!r}")


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


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, C) to `size` (width, height), antialiased Lanczos; the pixels themselves if of it."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return to_pixels(to_image(pixels).resize(size, Image.Resampling.LANCZOS))


def enhance(pixels: Pixels, enhancement: Enhancement) -> Pixels:
    """(H, W, C) to same: brightness, contrast, colour, then sharpness; factors of 1 do nothing.

    The pixels themselves, not a copy, if all factors are 1.
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


def encode(
    pixels: Pixels,
    image_format: ImageFormat,
    *,
    compression: int = 85,
    provenance: Provenance | None = None,
) -> bytes:
    """(H, W, C) to a file, the same bytes each time, with the provenance as XMP.

    `compression` is the quality, 0 to 100, of JPEG, WebP and AVIF; PNG is lossless and ignores it.
    """
    if not 0 <= compression <= 100:
        raise ValueError(f"compression must be in [0, 100]; got {compression}")
    xmp = b"" if provenance is None else xmp_packet(provenance)
    if image_format == "png":
        return encode_png(pixels, xmp)
    image, file = to_image(pixels), io.BytesIO()
    match image_format:
        case "jpeg":
            image.save(file, "jpeg", quality=compression, xmp=xmp)
        case "webp":
            image.save(file, "webp", quality=compression, method=WEBP_METHOD, xmp=xmp)
        case "avif":
            image.save(file, "avif", quality=compression, speed=AVIF_SPEED, max_threads=1, xmp=xmp)
        case _:
            assert_never(image_format)
    return file.getvalue()


def xmp_packet(provenance: Provenance) -> bytes:
    """The XMP that marks a generated image, as IPTC's DigitalSourceType and our own fields."""
    model = escape(provenance.model).encode()
    return XMP % (model, provenance.version, provenance.seed)


def contact_sheet(
    rows: Sequence[Sequence[Pixels]], labels: Sequence[str] | None, *, tile: int
) -> Pixels:
    """Rows of (R, R, C) images as one (H, W, 3) picture, each row behind its label if there are.

    Tiles are `tile` pixels square, whatever the images' own resolution.
    """
    if not any(rows):
        raise ValueError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    gap = max(2, tile // 16)
    font = ImageFont.load_default(min(max(tile // 4, FONT_SIZES[0]), FONT_SIZES[1]))
    texts = [_ellipsise(label, font, MAX_LABEL_TILES * tile) for label in labels or ()]
    # The label column, with a margin of two gaps on either side of the text.
    indent = max((round(font.getlength(text)) + 3 * gap for text in texts), default=0)
    columns = max(len(row) for row in rows)
    width, height = (2 * gap + n * (tile + gap) - gap for n in (columns, len(rows)))
    sheet = Image.new("RGB", (indent + width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        top = gap + y * (tile + gap)
        if texts:
            place = (indent - gap, top + tile / 2)
            draw.text(place, texts[y], fill=INK, font=font, anchor="rm")
        for x, pixels in enumerate(row):
            sheet.paste(_tile(pixels, tile), (indent + gap + x * (tile + gap), top))
    return to_pixels(sheet)


def _tile(pixels: Pixels, side: int) -> Image.Image:
    """A tile that shows the pixels as they are where `side` is a multiple of theirs."""
    image = to_image(pixels)
    whole = side % image.width == 0 and side % image.height == 0
    return image.resize(
        (side, side), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    )


def _ellipsise(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """`label` on one line, cut to `width` pixels; what the font cannot draw becomes a box."""
    text = "".join(c if c.isprintable() else " " for c in label[:200]).strip()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"
