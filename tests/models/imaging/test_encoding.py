"""Resizing, enhancement, encoding with provenance, and contact sheets."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import (
    MEDIA_TYPES,
    SOURCE_TYPE,
    ImageFormat,
    Provenance,
    encode,
    seed_in,
)
from models.imaging.pixels import (
    Enhancement,
    Pixels,
    enhance,
    resize,
)

FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp", "avif")
PROVENANCE = Provenance(model="<shoes> & \"socks\" 靴 'x'", version=3, seed=2**63 - 1)


def gradient(channels: int, side: int = 32) -> Pixels:
    """(R, R, C), smooth, different in each channel."""
    ramp = np.linspace(0, 255, side * side).reshape(side, side)
    return np.stack([np.rot90(ramp, k) for k in range(channels)], axis=2).astype(np.uint8)


def read_xmp(data: bytes) -> str:
    """The raw XMP packet of a file in any of our formats."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    return packet.decode() if isinstance(packet, bytes) else str(packet)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels: int) -> None:
    pixels = gradient(channels)
    with Image.open(io.BytesIO(encode(pixels, "png", compression=0))) as image:
        assert image.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", FORMATS)
def test_an_encoded_image_has_its_media_type_and_is_close(
    image_format: ImageFormat, channels: int
) -> None:
    pixels = gradient(channels)
    with Image.open(io.BytesIO(encode(pixels, image_format, compression=95))) as image:
        assert Image.MIME[image.format or ""] == MEDIA_TYPES[image_format]
        decoded = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.int16)
    error = np.abs(decoded.reshape(pixels.shape) - pixels)
    assert error.mean() < 6


@pytest.mark.parametrize("image_format", FORMATS)
def test_provenance_is_found_again(image_format: ImageFormat) -> None:
    packet = read_xmp(encode(gradient(3), image_format, provenance=PROVENANCE))
    fields = {node.tag.split("}")[1]: node.text for node in ET.fromstring(packet).iter()}
    assert fields["DigitalSourceType"] == SOURCE_TYPE
    assert SOURCE_TYPE.endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert fields["model"] == PROVENANCE.model
    assert (fields["version"], fields["seed"]) == ("3", str(2**63 - 1))


@pytest.mark.parametrize("image_format", FORMATS)
def test_without_provenance_there_is_no_xmp(image_format: ImageFormat) -> None:
    assert b"trainedAlgorithmicMedia" not in encode(gradient(3), image_format)
    with pytest.raises(KeyError):
        read_xmp(encode(gradient(3), image_format))


@pytest.mark.parametrize("image_format", FORMATS)
def test_encoding_is_deterministic(image_format: ImageFormat) -> None:
    files = {encode(gradient(3), image_format, provenance=PROVENANCE) for _ in range(5)}
    assert len(files) == 1


@pytest.mark.parametrize("image_format", ["jpeg", "webp", "avif"])
def test_lower_quality_makes_smaller_files(image_format: ImageFormat) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = [len(encode(pixels, image_format, compression=quality)) for quality in (0, 50, 100)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("compression", [-1, 101])
def test_compression_outside_its_range_is_refused(compression: int) -> None:
    with pytest.raises(ValueError, match="compression must be in"):
        encode(gradient(1), "webp", compression=compression)


@pytest.mark.parametrize("model", ["", "x" * 201, "line\nbreak", "nul\0"])
def test_a_provenance_that_does_not_fit_xml_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Provenance(model=model, version=1, seed=1)


def test_resize_takes_width_then_height_and_averages() -> None:
    pixels = np.tile(np.array([0, 255], dtype=np.uint8), (32, 16))[:, :, np.newaxis]
    small = resize(pixels, (4, 8))
    assert small.shape == (8, 4, 1)
    assert np.abs(small[1:-1, 1:-1].astype(int) - 127).max() <= 2  # aliasing would give 0 or 255


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_of_one_change_nothing(channels: int) -> None:
    np.testing.assert_array_equal(enhance(gradient(channels), Enhancement()), gradient(channels))


def test_nothing_to_change_is_no_work() -> None:
    pixels = gradient(3)
    assert enhance(pixels, Enhancement(color=1.0)) is pixels
    assert resize(pixels, (32, 32)) is pixels
    assert resize(pixels[:16], (16, 32)).shape == (32, 16, 3)


def test_brightness_multiplies_and_clamps() -> None:
    pixels = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert (enhance(pixels, Enhancement(brightness=1.5)) == 150).all()
    assert (enhance(pixels, Enhancement(brightness=4)) == 255).all()


def test_contrast_spreads_around_the_mean() -> None:
    pixels = np.array([[50, 150]], dtype=np.uint8)[:, :, np.newaxis]
    assert enhance(pixels, Enhancement(contrast=1.5)).ravel().tolist() == [25, 175]


def test_no_color_makes_grey_and_leaves_grey_alone() -> None:
    grey = enhance(gradient(3), Enhancement(color=0))
    assert (grey == grey[:, :, :1]).all()
    np.testing.assert_array_equal(enhance(gradient(1), Enhancement(color=0)), gradient(1))


def test_sharpness_steepens_an_edge() -> None:
    pixels = np.full((9, 9, 1), 100, dtype=np.uint8)
    pixels[:, 5:] = 150
    sharp = enhance(pixels, Enhancement(sharpness=3)).astype(int)
    assert sharp[4, 5, 0] - sharp[4, 4, 0] > 50


@pytest.mark.parametrize("factor", [-0.1, 4.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["sharpness", "contrast", "color", "brightness"])
def test_a_factor_outside_its_range_is_refused(name: str, factor: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 4\]"):
        Enhancement(**{name: factor})


def test_a_contact_sheet_keeps_pixels_honest_at_whole_multiples() -> None:
    image = gradient(3, side=8)
    sheet = contact_sheet([[image, image]], None, tile=32)  # gap 2
    assert sheet.shape == (2 + 32 + 2, 2 + 32 + 2 + 32 + 2, 3)
    np.testing.assert_array_equal(sheet[2:34:4, 2:34:4], image)
    np.testing.assert_array_equal(sheet[2:34, 2:34], sheet[2:34, 36:68])
    assert (sheet[:2] == 255).all()


def test_a_contact_sheet_mixes_grey_colour_sizes_and_ragged_rows() -> None:
    rows = [[gradient(1, side=28)], [gradient(3, side=64), gradient(1, side=16)]]
    sheet = contact_sheet(rows, None, tile=32)
    assert sheet.shape == (70, 70, 3)
    assert (sheet[2:34, 36:68] == 255).all()  # the first row is shorter


def test_labels_are_drawn_left_of_their_rows() -> None:
    white = np.full((32, 32, 1), 255, dtype=np.uint8)
    sheet = contact_sheet([[white], [white]], ["", "Dress"], tile=32)
    assert sheet.shape[1] > 36
    assert (sheet[:35] == 255).all()
    assert sheet[36:68, : sheet.shape[1] - 36].min() < 100


def test_a_long_label_is_cut() -> None:
    image = gradient(1)
    widths = {
        length: contact_sheet([[image]], ["x" * length], tile=32).shape[1]
        for length in (5, 50, 5000)
    }
    assert widths[5] < widths[50] == widths[5000] <= 36 + 3 * 32 + 3 * 2


@pytest.mark.parametrize(
    "label", ["靴下", "👟👩‍🦰", "a\nb\0c\t", "\u202egnp.exe", "ابجد", "\ud800", "", "   "]
)
def test_any_label_can_be_drawn(label: str) -> None:
    assert contact_sheet([[gradient(1)]], [label], tile=32).shape[0] == 36


def test_a_sheet_of_nothing_or_with_too_few_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([[], []], None, tile=32)
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        contact_sheet([[gradient(1)], [gradient(1)]], ["one"], tile=32)


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_seed_can_be_read_from_a_file(image_format: ImageFormat) -> None:
    assert seed_in(encode(gradient(3), image_format, provenance=PROVENANCE)) == PROVENANCE.seed
    with pytest.raises(ValueError, match="seed"):
        seed_in(encode(gradient(3), image_format))
