"""Sliced Wasserstein distance: it sees textures, each on the level of its size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.evaluation.sliced_wasserstein import sliced_wasserstein


def textured(count: int, seed: int, cell: int) -> Tensor:
    """Random blocks of `cell` px in colour, uint8 (N, 3, 64, 64)."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (count, 3, 64 // cell, 64 // cell), generator=random)
    return F.interpolate(blocks.float(), scale_factor=cell).to(torch.uint8)


def test_equal_textures_are_near_and_others_far() -> None:
    real = textured(60, 0, 4)
    same = sliced_wasserstein(real, textured(60, 1, 4))
    other = sliced_wasserstein(real, textured(60, 2, 8))
    assert list(same) == [64, 32, 16]
    assert max(same.values()) < 0.05
    assert other[64] > 5 * same[64]


def test_a_checker_pattern_shows_on_the_finest_level_alone() -> None:
    real, others = textured(60, 0, 16), textured(60, 1, 16)
    places = torch.arange(64)
    checker = 24 * ((places[:, None] + places) % 2)
    marked = (others.int() + checker - 12).clamp(0, 255).to(torch.uint8)
    before, after = sliced_wasserstein(real, others), sliced_wasserstein(real, marked)
    assert after[64] > 3 * before[64]
    assert after[16] < 1.2 * before[16]


def test_lost_contrast_counts() -> None:
    real, others = textured(60, 0, 8), textured(60, 1, 8)
    pale = (128 + (others.float() - 128) * 0.5).to(torch.uint8)
    before, after = sliced_wasserstein(real, others), sliced_wasserstein(real, pale)
    assert all(after[side] > 2 * before[side] for side in before)


def test_grey_and_tiny_images_are_compared() -> None:
    real = textured(20, 0, 4)[:, :1, ::4, ::4]
    assert sliced_wasserstein(real, real) == sliced_wasserstein(real, real)
    assert list(sliced_wasserstein(real, real)) == [16]
