"""Image encoding: PNG, JPEG, WebP and AVIF, with XMP provenance that marks AI-generated images.

Shapes: H height, W width, C image channels (1 grey, 3 sRGB); pixels are uint8 [0, 255], (H, W, C).
"""

import io
import re
from dataclasses import dataclass
from typing import Literal, assert_never, get_args
from xml.sax.saxutils import escape

from models.imaging.pixels import Pixels, to_image
from models.imaging.png import encode_png

ImageFormat = Literal["png", "jpeg", "webp", "avif"]

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


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Model, version and seed of a generated image, written into its XMP."""

    model: str
    version: int
    seed: int

    def __post_init__(self) -> None:
        # A JPEG holds at most 64 kB of XMP; XML has no control characters.
        if not 0 < len(self.model) <= 200 or not self.model.isprintable():
            raise ValueError(f"model must be 1 to 200 printable characters; got {self.model!r}")


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


def seed_in(content: bytes) -> int:
    """The seed in the provenance of a file that `encode` has written.

    Raises:
        ValueError: it has none.
    """
    match = re.search(rb"<vitrine:seed>(\d+)</vitrine:seed>", content)
    if match is None:
        raise ValueError("the image does not name its seed")
    return int(match[1])


def xmp_packet(provenance: Provenance) -> bytes:
    """The XMP that marks a generated image, as IPTC's DigitalSourceType and our own fields."""
    model = escape(provenance.model).encode()
    return XMP % (model, provenance.version, provenance.seed)
