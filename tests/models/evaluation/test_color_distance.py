"""Colour distance: of the product apart from the background, in units of Lab."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.evaluation.color_distance import color_distance
from models.imaging.lab import to_lab

RED, BLUE, GREY = (200, 40, 40), (40, 40, 200), (180, 180, 180)


def pictures(product: tuple[int, ...], background: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Four images (4, 3, 32, 32) with a square in the middle, and its masks."""
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[:, 8:24, 8:24] = True
    inside, outside = (torch.tensor(color, dtype=torch.uint8) for color in (product, background))
    pixels = torch.where(masks[..., None], inside, outside)
    return pixels.permute(0, 3, 1, 2), masks


def test_product_and_background_are_compared_apart() -> None:
    (real, masks), (fake, fake_masks) = pictures(RED, GREY), pictures(BLUE, GREY)
    distance = color_distance(real, fake, masks, fake_masks)
    assert distance.background == 0
    assert distance.product is not None
    assert distance.product > 50


def test_a_shift_of_all_colors_is_measured_in_lab_units() -> None:
    darker = (160, 160, 160)
    (real, masks), (fake, fake_masks) = pictures(RED, GREY), pictures(RED, darker)
    expected = np.linalg.norm(
        to_lab(np.array(GREY, dtype=np.uint8)) - to_lab(np.array(darker, dtype=np.uint8))
    )
    distance = color_distance(real, fake, masks, fake_masks)
    assert distance.background == pytest.approx(expected, rel=0.15)
    assert distance.product == 0


def test_a_part_that_no_image_shows_is_not_compared() -> None:
    (real, masks), (fake, fake_masks) = pictures(RED, GREY), pictures(RED, GREY)
    everywhere = torch.ones_like(fake_masks)
    distance = color_distance(real, fake, masks, everywhere)
    assert distance.background is None
    assert distance.product is not None
