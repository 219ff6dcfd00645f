"""Bytes that are no photo, or that lie about their size."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.photos import (
    ERROR_MESSAGES,
    MAX_PIXELS,
    ImageError,
    decode,
)
from tests.models.pictures import saved, two_tone


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((65535, 65535), "too_large"),  # beyond Pillow's own error
        ((10_000, 10_000), "too_large"),  # where Pillow only warns
        ((MAX_PIXELS // 1000 + 1, 1000), "too_large"),
        ((2**31 - 1, 2**31 - 1), "too_large"),
        ((0, 10), "corrupt"),
        ((100, 100), "corrupt"),
    ],
)
def test_a_header_that_promises_too_much_is_refused(size: tuple[int, int], kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(png_header(*size))
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "corrupt"),
        (b"not an image", "corrupt"),
        (saved(two_tone())[:60], "corrupt"),
        (saved(two_tone(), "jpeg")[:-200], "corrupt"),
        (saved(two_tone(), "eps"), "unsupported"),
        (saved(two_tone(), "gif")[:20], "corrupt"),
        (saved(two_tone(), "bmp")[:20], "corrupt"),
        (saved(two_tone(), "avif")[:100], "corrupt"),
        (b"8BPS\0\1" + b"\0" * 40, "unsupported"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported"),
    ],
)
def test_what_is_no_photo_gets_a_constant_message(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.kind == kind
    assert str(caught.value) in ERROR_MESSAGES.values()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["png", "jpeg", "webp"]), st.data())
def test_mutated_images_raise_nothing_but_image_errors(
    image_format: str, data: st.DataObject
) -> None:
    content = bytearray(saved(two_tone(), image_format))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(content), max_side=64)
    except ImageError:
        return
    assert image.mode in ("L", "RGB")
