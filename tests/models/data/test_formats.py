"""Accepted image formats: each recognised by content, with the first frame and bounded work."""

import io
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.data.photos import ImageError, canonicalise, decode, decode_kept, open_photo
from tests.models.pictures import BLUE, RED, many_exif_segments, noise, saved, two_tone

FORMATS = ["png", "jpeg", "webp", "heif", "avif", "gif", "tiff", "bmp"]


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_is_decoded_by_content(image_format: str) -> None:
    image = decode(saved(two_tone(size=(64, 48)), image_format))
    assert (image.mode, image.size) == ("RGB", (64, 48))
    np.testing.assert_allclose(np.asarray(image)[20, 8], RED, atol=12)
    np.testing.assert_allclose(np.asarray(image)[20, 56], BLUE, atol=12)
    assert image.info == {}


@pytest.mark.parametrize("image_format", ["gif", "tiff", "avif", "heif"])
def test_the_first_frame_is_taken(image_format: str) -> None:
    frames = [Image.new("RGB", (64, 64), color) for color in (RED, BLUE)]
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(np.asarray(decode(data))[5, 5], RED, atol=12)


@pytest.mark.parametrize("image_format", ["jpeg", "webp", "avif", "tiff"])
def test_the_orientation_is_undone_once(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(saved(two_tone(size=(64, 32)), image_format, exif=exif))
    assert image.size == (32, 64)
    np.testing.assert_allclose(np.asarray(image)[4, 16], RED, atol=12)


def test_a_heic_is_not_rotated_by_its_exif_data_too() -> None:
    """HEIC has a property of its own for this; phones write both."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(two_tone(size=(64, 32)), "heif", exif=exif)).size == (64, 32)


@pytest.mark.parametrize("image_format", ["jpeg2000", "pcx", "ppm", "tga", "ico", "icns", "eps"])
def test_what_pillow_knows_besides_is_not_opened(image_format: str) -> None:
    with pytest.raises(ImageError):
        decode(saved(two_tone(size=(64, 64)), image_format))


@pytest.mark.parametrize("image_format", FORMATS[2:])
def test_kept_photos_are_png_or_jpeg_alone(image_format: str) -> None:
    """Training and previews run outside the bounded decoder."""
    data = saved(two_tone(), image_format)
    with pytest.raises(ImageError):
        decode_kept(data)
    kept = decode_kept(canonicalise(open_photo(data), 512).data)
    assert kept.size == (32, 16)


def test_lossless_uploads_stay_lossless() -> None:
    suffixes = {
        name: canonicalise(open_photo(saved(two_tone(), name)), 512).suffix for name in FORMATS
    }
    assert {name for name, suffix in suffixes.items() if suffix == "png"} == {
        *("png", "gif", "tiff", "bmp")
    }


def test_sixteen_bit_tiffs_are_scaled_not_clipped() -> None:
    wide = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    big_endian = Image.frombytes("I;16B", (4, 1), wide.astype(">u2").tobytes())
    for image in (Image.fromarray(wide), big_endian):
        assert np.asarray(decode(saved(image, "tiff"))).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_photos_of_more_than_16_bits_are_unsupported(mode: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(saved(two_tone("L").convert(mode), "tiff"))
    assert caught.value.kind == "unsupported"


def gif_header(side: int) -> bytes:
    """A GIF that promises a size and holds one pixel."""
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\2D\1\0;"


def bmp_header(side: int) -> bytes:
    """A BMP that promises a size and holds nothing."""
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def tiff_header(side: int) -> bytes:
    """An uncompressed TIFF that promises a size and holds nothing."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (279, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("header", [gif_header, bmp_header, tiff_header])
def test_a_header_that_promises_too_many_pixels_is_refused(header: object) -> None:
    assert callable(header)
    for side in (7100, 12_000, 20_000):
        with pytest.raises(ImageError) as caught:
            decode(header(side))
        assert caught.value.kind == "too_large"


@pytest.mark.parametrize("image_format", ["heif", "avif"])
def test_a_video_codecs_picture_of_too_many_pixels_is_refused(image_format: str) -> None:
    options = {"speed": 10} if image_format == "avif" else {"quality": 1}
    data = saved(Image.new("L", (7200, 7000)), image_format, **options)
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.kind == "too_large"


def test_a_photo_whose_metadata_takes_minutes_is_given_up() -> None:
    data, began = many_exif_segments(), time.thread_time()
    with pytest.raises(ImageError) as caught:
        decode(data, within_s=0.5)
    assert caught.value.kind == "too_slow"
    assert time.thread_time() - began < 3


def test_exif_data_of_unusual_length_is_not_parsed() -> None:
    """Entries that overlap would make little data large."""
    entries = 60_000
    table = b"".join(struct.pack("<HHII", n, 7, 50_000_000, 8) for n in [41_729] * entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, entries) + table
    data, began = saved(two_tone(), "png", exif=exif + bytes(50_000_000)), time.thread_time()
    assert decode(data).size == (32, 16)
    assert time.thread_time() - began < 3


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["heif", "avif", "gif", "tiff", "bmp"]), st.data())
def test_mutated_images_raise_nothing_but_image_errors(
    image_format: str, data: st.DataObject
) -> None:
    content = bytearray(SOUND[image_format])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(content), max_side=64)
    except ImageError:
        return
    assert image.mode in ("L", "RGB")


SOUND = {name: saved(noise(1, (64, 48)), name) for name in FORMATS}


def test_files_are_read_from_memory_or_from_a_file() -> None:
    assert decode(io.BytesIO(SOUND["heif"])).size == decode(SOUND["heif"]).size == (64, 48)
