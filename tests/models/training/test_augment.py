"""Augmentation: what each change does, how often, and that gradients pass through it."""

import pytest
import torch
from torch import Tensor

from models.training import augment


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 64, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 16, 16, generator=random(9)) * 2 - 1


def test_p_is_the_share_of_images_that_each_change_touches() -> None:
    black = torch.full((4000, 1, 8, 8), -1.0)
    assert augment.augment(black, 0, random()) is black
    changed = (augment.augment(black, 0.3, random()) != black).flatten(1).any(1)
    # Of a uniform image a zero shift shows nothing; the others all do.
    zero_shift = 1 / 3**2
    untouched = 0.7 * (0.7 + 0.3 * zero_shift) * 0.7
    assert float(changed.double().mean()) == pytest.approx(1 - untouched, abs=0.03)


def test_the_same_generator_makes_the_same_changes() -> None:
    first, second = (augment.augment(images(), 0.5, random(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment.augment(images(), 0.5, random(4)))


@pytest.mark.parametrize("channels", [1, 3])
def test_recolouring_keeps_the_order_of_grey_values(channels: int) -> None:
    ramp = torch.linspace(-1, 1, 16).expand(32, channels, 16, 16)
    changed = augment.recolour(ramp, random())
    assert (changed.diff(dim=3) > 0).all()
    means = changed.mean((1, 2, 3))
    assert -0.5 <= means.min() < -0.3
    assert 0.3 < means.max() <= 0.5
    contrasts = changed.std((2, 3)) / ramp.std((2, 3))
    assert 0.5 <= contrasts.min() < 0.7
    assert 1.3 < contrasts.max() <= 1.5


def test_recolouring_changes_the_saturation_of_colours() -> None:
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(64, 3, 4, 4)
    changed = augment.recolour(red, random())
    spread = (changed[:, 0] - changed[:, 1])[:, 0, 0]
    assert spread.min() < 0.5
    assert spread.max() > 3


def test_translation_moves_whole_images_and_fills_with_zero() -> None:
    picture = images(200)
    moved = augment.translate(picture, random())
    seen = set()
    for before, after in zip(picture, moved, strict=True):
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                rows, columns = (slice(max(0, -d), 16 - max(0, d)) for d in (dy, dx))
                sources = [slice(max(0, d), 16 - max(0, -d)) for d in (dy, dx)]
                part = after[:, rows, columns]
                if torch.equal(part, before[:, sources[0], sources[1]]):
                    assert after.count_nonzero() == part.count_nonzero()
                    seen.add((dy, dx))
    assert len(seen) == 25


def test_cutout_zeroes_a_square_and_nothing_else() -> None:
    picture = images(500).clamp(min=0.1)
    cut = augment.cut_out(picture, random())
    hole = cut == 0
    assert torch.equal(cut[~hole], picture[~hole])
    sizes = hole[:, 0].sum((1, 2))
    # Seven or eight pixels a side inside the image, at least half of that at the border.
    assert sizes.max() in (49, 64)
    assert sizes.min() >= 16
    assert (hole[:, 0] == hole[:, 2]).all()


def test_gradients_pass_through_every_change() -> None:
    picture = images(32).requires_grad_()
    augment.augment(picture, 1, random()).sum().backward()
    assert picture.grad is not None
    assert (picture.grad.flatten(1).abs().sum(1) > 0).all()


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1\.5"):
        augment.augment(images(), 1.5, random())
