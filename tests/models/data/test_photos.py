"""Decoding untrusted images by pixel values, and fitting them into squares."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from models.data.photos import (
    canonicalise,
    decode,
    decode_photo,
    fit_square,
    open_photo,
)
from tests.models.pictures import BLUE, RED, saved, two_tone


def pixel(image: Image.Image, x: int, y: int) -> list[int]:
    """The channels of one pixel."""
    return [int(value) for value in np.asarray(image)[y, x]]


@pytest.mark.parametrize("image_format", ["png", "webp", "jpeg"])
def test_accepted_formats_are_decoded_by_content(image_format: str) -> None:
    options = {"lossless": True} if image_format == "webp" else {}
    image = decode(saved(two_tone(), image_format, **options))
    assert (image.mode, image.size) == ("RGB", (32, 16))
    np.testing.assert_allclose(pixel(image, 4, 4), RED, atol=4)
    np.testing.assert_allclose(pixel(image, 28, 4), BLUE, atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    # What a camera held that way stores, for each value of the EXIF tag.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(saved(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    np.testing.assert_array_equal(np.asarray(image), upright)
    assert not image.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(saved(two_tone(), exif=exif)).tobytes() == two_tone().tobytes()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    wide = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = decode(saved(Image.fromarray(wide)))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 1, 128, 255]]


def test_a_palette_becomes_its_colours() -> None:
    image = decode(saved(two_tone().quantize(2)))
    assert image.mode == "RGB"
    assert image.tobytes() == two_tone().tobytes()


def test_a_bilevel_image_becomes_grey() -> None:
    image = decode(saved(Image.fromarray(np.array([[True, False]]))))
    assert (image.mode, np.asarray(image).tolist()) == ("L", [[255, 0]])


def test_alpha_is_composited_over_white() -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    image = decode(saved(Image.fromarray(rgba)))
    assert image.mode == "RGB"
    assert np.asarray(image).tolist() == [[[200, 0, 0], [255, 255, 255], [127, 127, 127]]]


def test_grey_alpha_and_transparent_colours_are_composited_too() -> None:
    grey_alpha = np.array([[[10, 255], [10, 0]]], dtype=np.uint8)
    assert np.asarray(decode(saved(Image.fromarray(grey_alpha)))).tolist() == [[10, 255]]
    keyed = saved(Image.fromarray(np.array([[10, 20]], dtype=np.uint8)), transparency=10)
    assert np.asarray(decode(keyed)).tolist() == [[255, 20]]
    palette = two_tone().quantize(2)
    blue = int(np.asarray(palette)[0, -1])
    image = decode(saved(palette, transparency=blue))
    assert image.getpixel((0, 0)) == RED
    assert image.getpixel((31, 0)) == (255, 255, 255)


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image = decode(saved(cmyk, "jpeg", quality=95))
    assert image.mode == "RGB"
    np.testing.assert_allclose(pixel(image, 8, 8), (255, 0, 0), atol=3)


def test_a_colour_profile_is_converted_and_stripped() -> None:
    # sRGB with the primaries swapped, so that red means blue.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    image = decode(saved(two_tone(), icc_profile=swapped))
    assert "icc_profile" not in image.info
    np.testing.assert_allclose(pixel(image, 4, 4), BLUE, atol=2)


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 500])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    image = decode(saved(two_tone(), icc_profile=profile))
    assert image.tobytes() == two_tone().tobytes()


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_the_first_frame_of_an_animation_is_taken(image_format: str) -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in (RED, BLUE)]
    options = {"lossless": True} if image_format == "webp" else {}
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert decode(data).getpixel((5, 5)) == RED


def test_metadata_is_gone() -> None:
    data = saved(two_tone(), "jpeg", comment=b"secret", xmp=b"<x>secret</x>")
    assert b"secret" in data
    assert decode(data).info == {}
    assert b"secret" not in canonicalise(open_photo(data), 512).data


def test_a_polyglot_keeps_only_its_pixels() -> None:
    data = saved(two_tone()) + b"<script>alert(1)</script>PK\x03\x04"
    kept = canonicalise(open_photo(data), 512)
    assert b"script" not in kept.data
    assert decode(kept.data).tobytes() == two_tone().tobytes()


def test_max_side_bounds_the_longest_side_and_keeps_the_ratio() -> None:
    for image_format in ("png", "jpeg"):
        photo = decode_photo(
            open_photo(saved(two_tone(size=(1600, 800)), image_format)), max_side=100
        )
        assert (photo.image.size, photo.size) == ((100, 50), (1600, 800))
        np.testing.assert_allclose(pixel(photo.image, 20, 20), RED, atol=4)
    assert decode(saved(two_tone()), max_side=100).size == (32, 16)
    assert decode(saved(two_tone(size=(5000, 2))), max_side=100).size == (100, 1)


def test_a_nearly_fitting_image_is_padded_without_resampling() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 7
    square = fit_square(Image.fromarray(pixels), 32, channels=1)
    np.testing.assert_array_equal(square[2:30, 2:30, 0], pixels)
    border = np.ones((32, 32), dtype=bool)
    border[2:30, 2:30] = False
    assert (square[border] == 7).all()


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (40, 20), (64, 32)])
def test_a_photo_keeps_its_ratio_inside_the_square(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, (250, 250, 250))
    x, y = size[0] // 4, size[1] // 4
    photo.paste((10, 10, 10), (x, y, size[0] - x, size[1] - y))
    square = fit_square(photo, 64, channels=3)
    assert square.shape == (64, 64, 3)
    dark = square[:, :, 0] < 128
    height, width = sorted((dark.any(axis=1).sum(), dark.any(axis=0).sum()))
    assert (height, width) == (16, 32)
    assert (square[0] == 250).all()  # the border's colour, not black


def test_each_padded_side_continues_the_photos_edge_there() -> None:
    photo = Image.new("RGB", (32, 64), (90, 120, 150))
    photo.paste((200, 190, 180), (16, 0, 32, 64))
    photo.paste((0, 0, 0), (2, 0, 30, 64))  # trousers: they fill the sides that are not padded
    square = fit_square(photo, 64, channels=3)
    assert (square[:, :16] == (90, 120, 150)).all()
    assert (square[:, 48:] == (200, 190, 180)).all()
    lying = fit_square(photo.transpose(Image.Transpose.ROTATE_270), 64, channels=3)
    assert (lying[:16] == (90, 120, 150)).all()
    assert (lying[48:] == (200, 190, 180)).all()


def test_shrinking_averages() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (128, 64))
    square = fit_square(Image.fromarray(stripes), 16, channels=1).astype(int)
    assert np.abs(square[1:-1, 1:-1] - 127).max() <= 3


def test_channels_convert() -> None:
    grey = fit_square(two_tone(), 32, channels=1)
    assert grey[16, 4, 0] == round(0.299 * 200 + 0.587 * 30 + 0.114 * 30)
    colour = fit_square(two_tone("L"), 32, channels=3)
    assert (colour == colour[:, :, :1]).all()


@pytest.mark.parametrize(
    ("make", "suffix", "mode"),
    [
        (lambda: saved(two_tone()), "png", "RGB"),
        (lambda: saved(two_tone("L")), "png", "L"),
        (lambda: saved(two_tone("L").convert("RGB")), "png", "L"),
        (lambda: saved(two_tone(), "jpeg"), "jpg", "RGB"),
        (lambda: saved(two_tone("L").convert("RGB"), "jpeg"), "jpg", "L"),
        (lambda: saved(two_tone(), "webp"), "jpg", "RGB"),
    ],
)
def test_canonical_photos(make: Callable[[], bytes], suffix: str, mode: str) -> None:
    kept = canonicalise(open_photo(make()), 512)
    assert (kept.suffix, kept.grey, kept.sides) == (suffix, mode == "L", (16, 32))
    with Image.open(io.BytesIO(kept.data)) as image:
        assert image.mode == mode
    assert kept == canonicalise(open_photo(make()), 512)
