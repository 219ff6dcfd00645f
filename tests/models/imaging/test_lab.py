"""Lab colours: against published values, and equal steps of grey."""

import numpy as np
import pytest

from models.imaging.lab import to_lab


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_known_colors(rgb: tuple[int, ...], expected: tuple[float, ...]) -> None:
    assert to_lab(np.array(rgb, dtype=np.uint8)) == pytest.approx(expected, abs=0.02)


def test_pictures_keep_their_shape() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    lab = to_lab(pixels)
    assert lab.shape == (2, 4, 3)
    assert lab[1, 2] == pytest.approx(to_lab(pixels[1, 2]))
