"""Image formats: which untrusted files are opened, by content, and for how long they may be read.

The lists are explicit because Pillow knows forty formats more, each with a parser of its own.
"""

import io
import struct
import time
import zlib

import pillow_heif
from PIL import AvifImagePlugin, Image

UPLOAD_FORMATS = ("PNG", "JPEG", "WEBP", "HEIF", "AVIF", "GIF", "TIFF", "BMP")
KEPT_FORMATS = ("PNG", "JPEG")  # of photos as stored
LOSSLESS_FORMATS = ("PNG", "GIF", "TIFF", "BMP")
NAMED_FORMATS = "PNG, JPEG, WebP, HEIC, AVIF, GIF, TIFF or BMP"
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif"),
    *(".gif", ".tif", ".tiff", ".bmp"),
)
FOREIGN_MAGIC = (b"%!PS", b"8BPS", b"\xc5\xd0\xd3\xc6", b"%PDF", b"\0\0\0\x0cjP  ")

# Errors of Pillow's parsers on malformed bytes; `OSError` is no I/O error: bytes are in memory.
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError),
    *(AssertionError, RuntimeError),
    *(struct.error, zlib.error, UserWarning),
)

# One thread decodes a photo, so that its time and memory are bounded.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.register_heif_opener(
    decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
)


class TooSlow(Exception):
    """Reading a photo takes more time than allowed."""


class TimedReader(io.BytesIO):
    """Bytes that can be read until the thread has computed for `within_s` since it was made.

    Pillow reads most formats piece by piece, so their decoders stop. WebP, HEIC, AVIF and TIFF are
    decoded in one call, whose time the number of pixels bounds.
    """

    def __init__(self, content: bytes, within_s: float) -> None:
        super().__init__(content)
        self._end = time.thread_time() + within_s

    def read(self, size: int | None = -1, /) -> bytes:
        """As `BytesIO.read`; raises TooSlow when the time is up."""
        if time.thread_time() > self._end:
            raise TooSlow
        return super().read(size)


def open_image(content: bytes, formats: tuple[str, ...], within_s: float) -> Image.Image:
    """Open an image of one of `formats` by its content; raises TooSlow, and what Pillow raises."""
    return Image.open(TimedReader(content, within_s), formats=formats)


def is_foreign(content: bytes) -> bool:
    """Whether the bytes begin like an image format that is not accepted."""
    head = content[:512].lower()
    return content.startswith(FOREIGN_MAGIC) or b"<svg" in head
