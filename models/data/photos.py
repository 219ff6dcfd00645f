"""Image decoding: the only module that opens untrusted images; decodes, normalises, re-encodes.

Shapes: R side of a square in pixels, C image channels (1 grey, 3 sRGB); pixels are uint8 [0, 255].
"""

import hashlib
import io
import struct
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.formats import (
    DECODER_ERRORS,
    KEPT_FORMATS,
    LOSSLESS_FORMATS,
    NAMED_FORMATS,
    UPLOAD_FORMATS,
    TooSlow,
    is_foreign,
    open_image,
)
from models.data.near_duplicates import perceptual_hash
from models.data.normalisation import ORIENTATIONS, orientation_of, over_white, simplify, to_srgb

ImageErrorKind = Literal["corrupt", "too_large", "too_slow", "unsupported"]

MAX_PIXELS = 50_000_000
LARGE_PIXELS = 4_000_000  # photos above this are decoded one at a time, to bound memory
PADDED_SIDES = 4  # a photo at most this much smaller than its square is padded, not resampled
WIDE_MODES = ("I", "F")  # 32 bits a pixel
DECODE_S = 10.0  # CPU time of reading one photo; one of MAX_PIXELS takes up to 4 s
PNG_LEVEL = 3
JPEG_QUALITY = 95  # of kept photos, without chroma subsampling
ERROR_MESSAGES: dict[ImageErrorKind, str] = {
    "corrupt": "The image is damaged or incomplete.",
    "too_large": f"The image has more than {MAX_PIXELS:,} pixels.",
    "too_slow": "The image takes too long to decode.",
    "unsupported": f"The image is not a {NAMED_FORMATS} file of 8 or 16 bits.",
}

warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
_large_image = threading.Lock()


class ImageError(ValueError):
    """An upload that is not a usable photo; the message is constant for each `kind`."""

    def __init__(self, kind: ImageErrorKind) -> None:
        super().__init__(ERROR_MESSAGES[kind])
        self.kind: ImageErrorKind = kind


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A decoded upload: an RGB or L image, upright, sRGB, without alpha or metadata."""

    image: Image.Image
    size: tuple[int, int]  # (width, height) as stored, before shrinking and orienting
    lossless: bool


@dataclass(frozen=True, kw_only=True)
class CanonicalPhoto:
    """A photo as stored: re-encoded, so that nothing of the upload but its pixels is kept."""

    data: bytes  # PNG where the upload was lossless, else JPEG
    suffix: Literal["png", "jpg"]
    digest: bytes  # SHA-256 of the pixels
    perceptual_hash: int  # few bits differ between near-duplicates
    sides: tuple[int, int]  # of the upload: the shorter, the longer
    grey: bool


def decode(
    data: bytes | IO[bytes], *, max_side: int | None = None, within_s: float = DECODE_S
) -> Image.Image:
    """The upright sRGB (or L) photo in untrusted bytes, shrunk to `max_side`; see `decode_photo`.

    Raises:
        ImageError: not a photo that we accept; the message never quotes the decoder.
    """
    content = data if isinstance(data, bytes) else data.read()
    opened = open_photo(content, UPLOAD_FORMATS, within_s)
    return decode_photo(opened, max_side=max_side).image


def decode_kept(content: bytes) -> Image.Image:
    """The photo in bytes that `canonicalise` wrote: the decoders of other formats stay closed."""
    return decode_photo(open_photo(content, KEPT_FORMATS)).image


def decode_photo(opened: Image.Image, *, max_side: int | None = None) -> Photo:
    """Decode an opened photo, first frame only, alpha composited over white.

    Raises:
        ImageError: it is damaged, or decoding it takes too long.
    """
    size, lossless = opened.size, opened.format in LOSSLESS_FORMATS
    with _large_image if size[0] * size[1] > LARGE_PIXELS else nullcontext():
        try:
            image = _load(opened, max_side)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageError("too_large") from error
        except TooSlow as error:
            raise ImageError("too_slow") from error
        except DECODER_ERRORS as error:
            raise ImageError("corrupt") from error
    return Photo(image=image, size=size, lossless=lossless)


def open_photo(
    content: bytes, formats: tuple[str, ...] = UPLOAD_FORMATS, within_s: float = DECODE_S
) -> Image.Image:
    """Open a photo by content, without decoding its pixels; it may be read for `within_s`.

    Raises:
        ImageError: not a photo that we accept; the message never quotes the decoder.
    """
    try:
        opened = open_image(content, formats, within_s)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("too_large") from error
    except TooSlow as error:
        raise ImageError("too_slow") from error
    except DECODER_ERRORS as error:
        raise ImageError("unsupported" if is_foreign(content) else "corrupt") from error
    if opened.width * opened.height > MAX_PIXELS:
        raise ImageError("too_large")
    if opened.mode in WIDE_MODES:
        raise ImageError("unsupported")
    return opened


def _load(opened: Image.Image, max_side: int | None) -> Image.Image:
    """Decode all pixels, then normalise mode, size, colours and orientation, in that order."""
    if max_side:
        scale = 2 * max_side / max(opened.size)  # draft: libjpeg's own shrinking, at 8x the speed
        opened.draft(None, (ceil(opened.width * scale), ceil(opened.height * scale)))
    opened.load()
    profile, orientation = opened.info.get("icc_profile"), orientation_of(opened)
    image = simplify(opened)
    if max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = to_srgb(over_white(image), profile)
    method = ORIENTATIONS.get(orientation)
    # A copy, because the opened image keeps the file's metadata.
    image = image.copy() if method is None else image.transpose(method)
    image.info = {}
    return image


def fit_square(image: Image.Image, resolution: int, *, channels: int) -> NDArray[np.uint8]:
    """Shrink or enlarge to (R, R, C) undistorted; the rest continues the photo's own border.

    Padded, not cropped: a crop cuts off sleeves and heels. Each padded side takes the median colour
    of the photo's edge there: a product that fills the other two sides does not show in it. A photo
    within `PADDED_SIDES` of the resolution is only padded, so 28 px data in a 32 px square keep
    their exact pixels.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    longest = max(image.size)
    if not resolution - PADDED_SIDES <= longest <= resolution:
        width, height = (max(1, round(side * resolution / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    top, left = (resolution - image.height) // 2, (resolution - image.width) // 2
    bottom, right = top + image.height, left + image.width
    square = np.empty((resolution, resolution, channels), dtype=np.uint8)
    square[:top], square[bottom:] = np.median(pixels[0], axis=0), np.median(pixels[-1], axis=0)
    square[:, :left], square[:, right:] = (np.median(pixels[:, x], axis=0) for x in (0, -1))
    square[top:bottom, left:right] = pixels
    return square


def canonicalise(opened: Image.Image, max_side: int) -> CanonicalPhoto:
    """Decode an opened photo and re-encode it, at most `max_side` pixels long, grey if it is.

    Raises:
        ImageError: it is damaged, or decoding it takes too long.
    """
    photo = decode_photo(opened, max_side=max_side)
    image = photo.image.convert("L") if _is_grey(photo.image) else photo.image
    file = io.BytesIO()
    if photo.lossless:
        image.save(file, "png", compress_level=PNG_LEVEL)
    else:
        image.save(file, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    pixels = image.mode.encode() + struct.pack("<II", *image.size) + image.tobytes()
    return CanonicalPhoto(
        data=file.getvalue(),
        suffix="png" if photo.lossless else "jpg",
        digest=hashlib.sha256(pixels).digest(),
        perceptual_hash=perceptual_hash(image),
        sides=(min(photo.size), max(photo.size)),
        grey=image.mode == "L",
    )


def _is_grey(image: Image.Image) -> bool:
    """Whether all three channels are equal; JPEG and WebP may store grey photos as colour."""
    if image.mode == "L":
        return True
    pixels = np.asarray(image)
    return bool((pixels[..., :2] == pixels[..., 1:]).all())
