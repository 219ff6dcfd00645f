"""Labels of contact sheets in the scripts that shops write."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from models.imaging.contact_sheet import contact_sheet, label_font
from models.imaging.pixels import Pixels

PRIVATE = "\ue123"  # the font does not have it: its box


def drawn(text: str, size: int = 28) -> Pixels:
    """The text on its own, black on white."""
    image = Image.new("L", (900, 60), 255)
    ImageDraw.Draw(image).text((10, 10), text, fill=0, font=label_font(size))
    return np.asarray(image)


@pytest.mark.parametrize(
    "text",
    [
        *("Kleider", "Größe Übergröße", "Éléphant Łódź İğ", "Đầm ẩm", "платье Їжак", "Φόρεμα"),
        *(
            "连衣裙",
            "連衣裙 鞋",
            "靴下ワンピースのー",
            "드레스 원피스",
            "فستان قميص",
            "שמלה",
            "ชุดเดรส",
        ),
        *("कपड़े", "Nr. 5 – 20 € ½ №", "Ａ１，。「」"),
    ],
)
def test_a_shops_script_has_no_boxes(text: str) -> None:
    box = drawn(PRIVATE)
    assert [character for character in text if (drawn(character) == box).all()] == []


def test_different_characters_look_different() -> None:
    pictures = {drawn(character).tobytes() for character in "连衣裙鞋帽靴下드레스платьеöäü"}
    assert len(pictures) == len(set("连衣裙鞋帽靴下드레스платьеöäü"))


@pytest.mark.skipif(not features.check("raqm"), reason="the machine has no libfribidi")
def test_arabic_is_joined_and_runs_from_right_to_left() -> None:
    apart = sum((drawn(letter) < 128).any(axis=0).sum() for letter in "ببب")
    joined = (drawn("ببب") < 128).any(axis=0)
    assert joined.sum() < apart
    assert np.diff(np.flatnonzero(joined)).max() == 1  # one stroke without gaps
    first, second = (np.flatnonzero((drawn(t) < 128).any(axis=0)) for t in ("ا", "اد"))
    assert second[-1] - first[-1] > 3  # the second letter stands left of the first


def test_a_label_in_any_script_widens_the_sheet_by_its_text() -> None:
    tile = np.full((64, 64, 3), 255, dtype=np.uint8)
    for label in ("Größe", "платье", "连衣裙", "فستان"):
        sheet = contact_sheet([[tile]], [label], tile=64)
        ink = np.flatnonzero((sheet[:, : sheet.shape[1] - 72] < 128).any(axis=(0, 2)))
        assert 20 < ink[-1] - ink[0] < 64 * 3
        rows = np.flatnonzero((sheet[:, : sheet.shape[1] - 72] < 128).any(axis=(1, 2)))
        assert abs((rows[0] + rows[-1]) / 2 - 36) < 8  # beside the middle of its row


def test_a_heading_stands_above_its_columns_and_ends_before_the_next() -> None:
    tile = np.zeros((64, 64, 3), dtype=np.uint8)
    rows = [[tile] * 5, [tile] * 5]
    headings = [(0, "far too long for one tile"), (1, "nearest photos")]
    headed = contact_sheet(rows, None, tile=64, headings=headings)
    plain = contact_sheet(rows, None, tile=64)
    above = headed.shape[0] - plain.shape[0]
    assert above > 16
    np.testing.assert_array_equal(headed[above:], plain)
    dark = np.flatnonzero((headed[: above + 3] < 200).any(axis=(0, 2)))
    assert dark[0] < 4 + 4
    assert dark[dark < 4 + 68][-1] <= 4 + 64  # cut to its column
    assert dark[dark > 4 + 64][0] < 4 + 68 + 4  # the next one begins with its own
