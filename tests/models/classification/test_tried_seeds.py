"""Seeds of an image's tries: its own, in an order that is known."""

import random

import pytest

from models.classification.tried_seeds import TRIES, rejected_before, tried_seed
from models.inference.sample import MAX_SEED


@pytest.mark.parametrize("first", [0, 41, 2**48 - 3, 2**53 - 50, MAX_SEED - 64])
def test_images_of_one_request_never_share_a_seed(first: int) -> None:
    seeds = [tried_seed(first + i, number) for i in range(64) for number in range(TRIES)]
    assert len(set(seeds)) == 64 * TRIES
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    if first < 2**53 - 64:
        assert max(seeds) < 2**53  # JavaScript's numbers hold it


def test_nor_do_images_of_requests_that_follow_each_other() -> None:
    drawn = random.Random(0)
    for _ in range(1000):
        one, gap = drawn.randrange(2**53), drawn.randrange(1, 2**40)
        numbers = drawn.randrange(TRIES), drawn.randrange(TRIES)
        assert tried_seed(one, numbers[0]) != tried_seed(one + gap, numbers[1])


def test_the_rejected_seeds_follow_from_the_one_that_was_chosen() -> None:
    assert rejected_before(7, 7) == []
    assert rejected_before(7, tried_seed(7, 2)) == [7, 7 + 2**48]
