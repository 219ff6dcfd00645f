"""Doubt in masks, for each reason alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.cutouts.doubt import measure_trust
from models.cutouts.masks import clean_mask
from tests.models.cutouts.test_masks import MIDDLE, seen

FUZZY = seen(MIDDLE)
FUZZY[30:50, 30:70] = 0.7


@pytest.mark.parametrize(
    ("picture", "doubt"),
    [
        (seen((slice(0, 5), slice(50, 55))), "not found"),
        (seen((slice(2, 98), slice(2, 98))), "fills nearly the whole photo"),
        (seen((slice(0, 60), slice(20, 80))), "cut off"),
        (FUZZY, "unclear"),
    ],
)
def test_a_doubtful_mask_says_why(picture: NDArray[np.float32], doubt: str) -> None:
    (reason,) = measure_trust(clean_mask(picture, (100, 100))).doubts
    assert doubt in reason


def test_nothing_at_all_is_doubtful() -> None:
    assert measure_trust(clean_mask(seen(), (100, 100))).doubts


def test_a_clear_product_is_trusted() -> None:
    trust = measure_trust(clean_mask(seen(MIDDLE), (100, 100)))
    assert trust.doubts == []
    assert (trust.area, trust.contact) == (0.16, 0)
