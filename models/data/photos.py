"""Image decoding: the only module that opens untrusted images; decodes, normalises, re-encodes.

Shapes: R side of a square in pixels, C image channels (1 grey, 3 sRGB); pixels are uint8 [0, 255].
"""

import hashlib
import io
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from models.data.near_duplicates import perceptual_hash

ImageErrorKind = Literal["corrupt", "too_large", "unsupported"]

MAX_PIXELS = 50_000_000
LARGE_PIXELS = 4_000_000  # photos above this are decoded one at a time, to bound memory
PADDED_SIDES = 4  # a photo at most this much smaller than its square is padded, not resampled
PNG_LEVEL = 3
JPEG_QUALITY = 95  # of kept photos, without chroma subsampling
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ERROR_MESSAGES: dict[ImageErrorKind, str] = {
    "corrupt": "The image is damaged or incomplete.",
    "too_large": f"The image has more than {MAX_PIXELS:,} pixels.",
    "unsupported": "The image is not a PNG, JPEG or WebP file.",
}
FOREIGN_MAGIC = (b"GIF8", b"II*\0", b"MM\0*", b"BM", b"%!PS", b"8BPS", b"\xc5\xd0\xd3\xc6", b"%PDF")
# Errors of Pillow's parsers on malformed bytes; `OSError` is no I/O error: bytes are in memory.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError),
    AssertionError,
    *(struct.error, zlib.error, UserWarning),
)

SRGB = ImageCms.createProfile("sRGB")
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


def decode(data: bytes | IO[bytes], *, max_side: int | None = None) -> Image.Image:
    """The upright sRGB (or L) photo in untrusted bytes, shrunk to `max_side`; see `decode_photo`.

    Raises:
        ImageError: not a photo that we accept; the message never quotes the decoder.
    """
    return decode_photo(data, max_side=max_side).image


def decode_photo(data: bytes | IO[bytes], *, max_side: int | None = None) -> Photo:
    """Decode PNG, JPEG or WebP by content, first frame only, alpha composited over white."""
    content = data if isinstance(data, bytes) else data.read()
    opened = _open(content)
    size, lossless = opened.size, opened.format == "PNG"
    with _large_image if size[0] * size[1] > LARGE_PIXELS else nullcontext():
        try:
            image = _load(opened, max_side)
        except DECODER_ERRORS as error:
            raise ImageError("corrupt") from error
    return Photo(image=image, size=size, lossless=lossless)


def _open(content: bytes) -> Image.Image:
    try:
        opened = Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "WEBP"])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("too_large") from error
    except DECODER_ERRORS as error:
        raise ImageError("unsupported" if _is_foreign(content) else "corrupt") from error
    if opened.width * opened.height > MAX_PIXELS:
        raise ImageError("too_large")
    return opened


def _is_foreign(content: bytes) -> bool:
    """Whether the bytes begin like an image format that we do not accept."""
    head = content[:512].lower()
    return content.startswith(FOREIGN_MAGIC) or b"<svg" in head or content[4:8] == b"ftyp"


def _load(opened: Image.Image, max_side: int | None) -> Image.Image:
    """Decode all pixels, then normalise mode, size, colours and orientation, in that order."""
    if max_side:
        scale = 2 * max_side / max(opened.size)  # draft: libjpeg's own shrinking, at 8x the speed
        opened.draft(None, (ceil(opened.width * scale), ceil(opened.height * scale)))
    opened.load()
    profile, orientation = opened.info.get("icc_profile"), _orientation(opened)
    image = _simplify(opened)
    if max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image = _to_srgb(_over_white(image), profile)
    method = ORIENTATIONS.get(orientation)
    # A copy, because the opened image keeps the file's metadata.
    image = image.copy() if method is None else image.transpose(method)
    image.info = {}
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODER_ERRORS:
        return 1  # broken EXIF data is ignored


def _simplify(image: Image.Image) -> Image.Image:
    """Any mode to L, LA, RGB, RGBA or CMYK; 16-bit grey is scaled to 8 bits, not clipped."""
    if image.mode.startswith("I"):
        wide = np.asarray(image, dtype=np.uint16)
        # wide / 257, rounded; the bound keeps the sum within 16 bits.
        return Image.fromarray(((np.minimum(wide, 65407) + 128) // 257).astype(np.uint8))
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA", "La"):
        mode = "LA" if transparent else "L"
    else:
        mode = "RGBA" if transparent else "RGB"
    return image if image.mode in (mode, "CMYK") else image.convert(mode)  # no copy of large ones


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new(image.mode, image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white.convert(image.mode.removesuffix("A"))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours by a valid ICC profile that is not sRGB; else they count as sRGB."""
    if image.mode == "L":
        return image
    if profile and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
        except (ImageCms.PyCMSError, *DECODER_ERRORS):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def fit_square(image: Image.Image, resolution: int, *, channels: int) -> NDArray[np.uint8]:
    """Shrink or enlarge to (R, R, C) undistorted; the photo's median border colour fills the rest.

    Padded, not cropped: a crop cuts off sleeves and heels. A photo within `PADDED_SIDES` of the
    resolution is only padded, so 28 px data in a 32 px square keep their exact pixels.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    longest = max(image.size)
    if not resolution - PADDED_SIDES <= longest <= resolution:
        width, height = (max(1, round(side * resolution / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    square = np.empty((resolution, resolution, channels), dtype=np.uint8)
    square[:] = np.median(np.concatenate(edges), axis=0)
    top, left = (resolution - image.height) // 2, (resolution - image.width) // 2
    square[top : top + image.height, left : left + image.width] = pixels
    return square


def canonicalise(data: bytes, max_side: int) -> CanonicalPhoto:
    """Decode an upload and re-encode it, at most `max_side` pixels long, grey if its pixels are.

    Raises:
        ImageError: not a photo that we accept.
    """
    photo = decode_photo(data, max_side=max_side)
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
