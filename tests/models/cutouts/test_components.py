"""Connected components against a flood fill."""

import numpy as np
import pytest

from models.cutouts.components import Flags, label_components


def flooded(flags: Flags) -> list[set[tuple[int, int]]]:
    """The regions, each as its pixels, by flood fill; ordered by their first pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(flags), strict=True)}
    regions = []
    while left:
        region, edge = set(), [min(left)]
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.discard((y, x))
                region.add((y, x))
                edge += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        regions.append(region)
    return regions


@pytest.mark.parametrize("density", [0.2, 0.45, 0.6, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_regions_are_those_of_a_flood_fill(density: float, seed: int) -> None:
    flags = np.random.default_rng(seed).random((23, 31)) < density
    labels = label_components(flags)
    expected = flooded(flags)
    assert labels.max() == len(expected)
    for number, region in enumerate(expected, start=1):
        found = {(int(y), int(x)) for y, x in zip(*np.nonzero(labels == number), strict=True)}
        assert found == region


def test_corners_do_not_touch_and_nothing_is_nothing() -> None:
    assert label_components(np.eye(3, dtype=bool)).max() == 3
    assert label_components(np.zeros((4, 5), dtype=bool)).max() == 0
    assert (label_components(np.ones((4, 5), dtype=bool)) == 1).all()
