"""Photo normalisation: any mode, colour profile and alpha to sRGB or grey; Exif orientation."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageCms

from models.data.formats import DECODER_ERRORS

MAX_EXIF_BYTES = 2**17  # twice a JPEG segment; what is longer is not parsed
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SRGB = ImageCms.createProfile("sRGB")


def orientation_of(image: Image.Image) -> int:
    """The Exif orientation, 1 to 8 if valid; 1, upright, where there is no usable Exif data."""
    if len(image.info.get("exif") or b"") > MAX_EXIF_BYTES:
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except DECODER_ERRORS:
        return 1  # broken EXIF data is ignored


def simplify(image: Image.Image) -> Image.Image:
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


def over_white(image: Image.Image) -> Image.Image:
    """The photo composited over white, without alpha."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new(image.mode, image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white.convert(image.mode.removesuffix("A"))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
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
