"""Colours of products, and their names."""

import numpy as np
import pytest

from models.cutouts.colors import NAMES, color_name, product_color
from models.imaging.lab import to_lab

CLOTH = {  # what clothes of these names look like in photos, sRGB
    "black": ["#141416", "#262423"],
    "white": ["#f4f4f2", "#c9c6c0", "#d8dade"],
    "grey": ["#8a8a8a", "#5d5f61"],
    "red": ["#b5121b", "#e0263c"],
    "orange": ["#e8742a"],
    "yellow": ["#f2c81e", "#f7e04b"],
    "green": ["#1f6b3a", "#7fb069", "#556b2f"],
    "blue": ["#2f5fb3", "#8fb8de", "#5b7fa6"],
    "navy": ["#1b2440", "#141c33"],
    "purple": ["#6a2c8f", "#b59ad6"],
    "pink": ["#f4a6c0", "#e0559a"],
    "brown": ["#6b4226", "#4a2e1d"],
    "beige": ["#d9c3a0", "#c8b08a"],
}


@pytest.mark.parametrize(("name", "hexes"), CLOTH.items())
def test_a_color_has_the_name_that_people_give_it(name: str, hexes: list[str]) -> None:
    for text in hexes:
        lightness, a, b = to_lab(np.array(list(bytes.fromhex(text[1:])), np.uint8)).tolist()
        assert color_name((lightness, a, b)) == name, text


def test_every_color_has_one_of_the_names() -> None:
    values = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(-1, 3)
    found = {color_name((float(x), float(y), float(z))) for x, y, z in to_lab(cube)}
    assert found == set(NAMES) == set(CLOTH)


def test_only_the_product_counts() -> None:
    pixels = np.full((10, 10, 3), (0, 255, 0), dtype=np.uint8)
    pixels[2:8, 2:8] = (181, 18, 27)
    pixels[4, 4] = (255, 255, 255)  # a button
    mask = np.zeros((10, 10, 1), dtype=np.uint8)
    mask[2:8, 2:8] = 255
    mask[1, 2:8] = 200  # the soft edge
    expected = to_lab(np.array([181, 18, 27], dtype=np.uint8))
    np.testing.assert_allclose(product_color(pixels, mask), expected, atol=0.06)
    grey = product_color(pixels[:, :, 1:2], mask)
    assert (abs(grey[1]), abs(grey[2])) < (0.1, 0.1)
