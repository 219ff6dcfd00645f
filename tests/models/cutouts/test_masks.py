"""Masks cleaned up, by pixels that are known."""

import numpy as np
from numpy.typing import NDArray

from models.cutouts.masks import clean_mask

SIZE = (200, 100)  # width, height of a photo


def seen(*boxes: tuple[slice, slice], value: float = 1) -> NDArray[np.float32]:
    """What a network sees: certain products in these boxes of 100 x 100."""
    picture = np.zeros((100, 100), dtype=np.float32)
    for box in boxes:
        picture[box] = value
    return picture


MIDDLE = (slice(30, 70), slice(30, 70))


def test_a_mask_has_the_photos_size_and_is_opaque_inside() -> None:
    mask = clean_mask(seen(MIDDLE), SIZE).mask
    assert mask.shape == (100, 200, 1)
    assert (mask[33:67, 66:134] == 255).all()
    assert (mask[:27] == 0).all()
    assert (mask[:, 146:] == 0).all()


def test_what_is_small_beside_the_product_goes_and_a_second_shoe_stays() -> None:
    crumb = (slice(5, 10), slice(5, 10))
    shoe = (slice(75, 95), slice(30, 70))
    product = clean_mask(seen(MIDDLE, crumb, shoe), SIZE).product
    assert not product[crumb].any()
    assert product[shoe].all()


def test_small_holes_close_and_large_ones_stay() -> None:
    picture = seen((slice(10, 90), slice(10, 90)))
    picture[20:23, 20:23] = 0.1
    picture[40:60, 40:60] = 0.1
    found = clean_mask(picture, (100, 100))
    assert found.product[20:23, 20:23].all()
    assert (found.mask[20:23, 20:23] == 255).all()
    assert not found.product[40:60, 40:60].any()


def test_a_gap_at_the_border_is_no_hole() -> None:
    picture = seen((slice(0, 80), slice(10, 90)))
    picture[0:3, 50:53] = 0  # a neckline
    assert not clean_mask(picture, (100, 100)).product[0:3, 50:53].any()


def test_only_the_edge_is_soft() -> None:
    picture = seen(MIDDLE)
    picture[45:55, 45:55] = 0.6  # uncertain, but inside
    picture[28:30, 30:70] = 0.3  # beside the outline
    picture[10, 10] = 0.45  # apart
    mask = clean_mask(picture, (100, 100)).mask[..., 0]
    assert (mask[45:55, 45:55] == 255).all()
    assert 0 < mask[29, 50] < 255
    assert mask[10, 10] == 0


def test_nothing_is_found_where_nothing_is_seen() -> None:
    found = clean_mask(seen(), SIZE)
    assert found.is_empty
    assert not found.product.any()
    assert not clean_mask(seen(MIDDLE), SIZE).is_empty
