"""Products found in real photos, and studio data sets made of them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.cutouts.attributes import (
    PhotoAttributes,
    as_csv,
    dump,
    overridden,
    parse,
    summarise,
)
from models.cutouts.segmentation import CutOut, cut_out_photos, decode_mask
from models.cutouts.studio import studio_photo
from models.cutouts.studio_dataset import cutout_sheet, read_studio_images
from models.data.photos import decode, fit_square
from models.imaging.lab import to_lab
from tests.models.pictures import noise, saved, zipped

PHOTOS = Path(__file__).parents[1] / "photos"
NAMES = ("pants-1", "dress-1", "shoes-1")
CATEGORIES = ["clothes", "noise"]


@pytest.fixture(scope="module")
def archive() -> io.BytesIO:
    """Three real photos, and a noise in which there is no product."""
    files = {
        f"000/{n:06d}.jpg": (PHOTOS / f"{name}.jpg").read_bytes() for n, name in enumerate(NAMES)
    }
    return zipped(files | {"001/000000.png": saved(noise(0, (200, 150)))})


@pytest.fixture(scope="module")
def cut_outs(archive: io.BytesIO) -> list[CutOut]:
    return list(cut_out_photos(archive, CATEGORIES))


@pytest.fixture(scope="module")
def masks(cut_outs: list[CutOut]) -> io.BytesIO:
    return zipped({each.attributes.file: each.mask_png for each in cut_outs})


@pytest.fixture(scope="module")
def attributes(cut_outs: list[CutOut]) -> list[PhotoAttributes]:
    return [each.attributes for each in cut_outs]


def test_products_are_found_measured_and_named(
    archive: io.BytesIO, cut_outs: list[CutOut], attributes: list[PhotoAttributes]
) -> None:
    assert [each.file for each in attributes] == zipfile.ZipFile(archive).namelist()
    assert [each.category for each in attributes] == ["clothes"] * 3 + ["noise"]
    assert [each.doubts for each in attributes[:3]] == [(), (), ()]
    assert attributes[3].doubts
    for each, name in zip(cut_outs, NAMES, strict=False):
        mask = decode_mask(each.mask_png)
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            assert mask.shape == (photo.height, photo.width, 1)
        np.testing.assert_allclose((mask >= 128).mean(), each.attributes.area, atol=0.01)
        assert each.attributes.fill is not None
        assert 0.4 < each.attributes.fill <= 1
        assert each.attributes.color is not None


def test_trusted_photos_become_studio_photos_and_the_others_stay(
    archive: io.BytesIO, masks: io.BytesIO, attributes: list[PhotoAttributes]
) -> None:
    background = (10, 200, 30)
    read = list(
        read_studio_images(archive, masks, attributes, 64, channels=3, background=background)
    )
    assert [label for label, _ in read] == [0, 0, 0, 1]
    with zipfile.ZipFile(archive) as photos, zipfile.ZipFile(masks) as found:
        for (_, pixels), each in zip(read[:3], attributes, strict=False):
            photo, mask = decode(photos.read(each.file)), decode_mask(found.read(each.file))
            expected = studio_photo(photo, mask, 64, channels=3, background=background)
            np.testing.assert_array_equal(pixels, expected)
            assert (pixels[0] == background).all()
        as_is = fit_square(decode(photos.read(attributes[3].file)), 64, channels=3)
    np.testing.assert_array_equal(read[3][1], as_is)


def test_the_sheet_shows_photo_mask_and_result(
    archive: io.BytesIO, masks: io.BytesIO, attributes: list[PhotoAttributes]
) -> None:
    sheet = cutout_sheet(archive, masks, attributes)
    height, width, _ = sheet.shape
    assert height > 2 * 96
    assert width > 9 * 96


def test_attributes_survive_storage_and_are_summed_up(attributes: list[PhotoAttributes]) -> None:
    assert parse(dump(attributes)) == attributes
    summary = summarise(attributes)
    assert (summary["photos"], summary["doubtful"]) == (4, 1)
    doubts = list(attributes[3].doubts)
    doubtful = {"file": "001/000000.png", "category": "noise", "doubts": doubts}
    assert summary["first_doubtful"] == [doubtful]
    lines = as_csv(attributes).splitlines()
    assert lines[0].startswith("file,category,color,lab_l,lab_a,lab_b,fill")
    assert len(lines) == 5
    with pytest.raises(ValueError, match="damaged"):
        parse(b'{"file": 1}\n')


def test_what_a_shop_gives_overrides_what_is_measured(attributes: list[PhotoAttributes]) -> None:
    measured = attributes[0]
    named = overridden(measured, {"color": "petrol", "size": "M"})
    assert (named.color, named.lab) == ("petrol", measured.lab)
    assert named.given == {"color": "petrol", "size": "M"}
    coded = overridden(measured, {"color": "#B5121B"})
    assert coded.color == "red"
    expected = to_lab(np.array([0xB5, 0x12, 0x1B], dtype=np.uint8))
    np.testing.assert_allclose(coded.lab or (), expected, atol=0.06)
    assert overridden(measured, {}) == measured
    assert parse(dump([coded])) == [coded]
