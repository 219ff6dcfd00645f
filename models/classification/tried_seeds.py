"""Seeds that an image is tried with where it must show its category (`min_category_probability`).

Each image has its own, so that it is a function of its first seed alone, whatever other images of
the request need. All but the first differ from it in bits 48 to 51 only. Two images whose seeds are
less than 2^48 apart differ in lower bits, so neither tries a seed of the other; and a seed below
2^53, which every JSON client represents exactly, stays below.
"""

TRIES = 16
SHIFT = 48


def tried_seed(first: int, number: int) -> int:
    """The seed of an image's try `number`, from 0 to TRIES - 1."""
    return first ^ (number << SHIFT)


def rejected_before(first: int, chosen: int) -> list[int]:
    """The seeds that an image was tried with before the one that was chosen."""
    return [tried_seed(first, number) for number in range((first ^ chosen) >> SHIFT)]
