"""Near-duplicate detection by perceptual hash: one shot re-encoded, resized or slightly edited.

Method: pHash, the signs of a picture's lowest frequencies. "Implementation and Benchmarking of
Perceptual Image Hash Functions" - Zauner, 2010 (https://www.phash.org/docs/pubs/thesis_zauner.pdf);
with the median as in "Looks Like It" - Krawetz, 2011
(https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html).
Only brightness counts: one shot in two colours is a near-duplicate.

Shapes: N photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.report import NearDuplicatePair

SIDE = 32  # pixels, of the picture whose frequencies are taken
FREQUENCIES = 8  # in each direction, so the hash has 64 bits
# Largest Hamming distance between near-duplicates. Distances are always even, as half of a hash's
# bits are set. `benchmarks.uploads.near_duplicates` prints the rates at this and other distances.
MAX_DISTANCE = 4
LISTED_PAIRS = 100
CELLS = 2**18  # hashes compared at once: what fits a cache is fastest
_n, _k = np.arange(SIDE), np.arange(FREQUENCIES)
DCT = np.cos(np.pi * _k[:, None] * (2 * _n[None, :] + 1) / (2 * SIDE))  # type II, unscaled


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """For each photo, the index of its first earlier near-duplicate; -1 if there is none."""

    any_group: NDArray[np.int64]  # (N,)
    other_group: NDArray[np.int64]  # (N,) in another group than its own

    @classmethod
    def find(
        cls, hashes: Sequence[int], groups: Sequence[int], distance: int = MAX_DISTANCE
    ) -> "Neighbours":
        """Compare all pairs of photos, in a few nanoseconds per pair."""
        known = np.array(hashes, dtype=np.uint64)
        group = np.array(groups, dtype=np.int64)
        total = len(known)
        nearest = cls(any_group=np.full(total, -1), other_group=np.full(total, -1))
        rows = max(1, CELLS // max(1, total))
        for start in range(0, total, rows):
            end = min(start + rows, total)
            near = np.bitwise_count(known[start:end, None] ^ known[:end]) <= distance
            near[:, start:] &= np.tri(end - start, k=-1, dtype=bool)  # those before it only
            found = np.flatnonzero(near.any(axis=1))
            near = near[found]
            nearest.any_group[start + found] = _first(near)
            near &= group[start + found, None] != group[:end]
            nearest.other_group[start + found] = _first(near)
        return nearest


def perceptual_hash(image: Image.Image) -> int:
    """64-bit perceptual hash of an L or RGB image; near-duplicates differ in few bits."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    # Rounded, so that a flat picture's zeros have no sign.
    spectrum = (DCT @ np.asarray(small, dtype=np.float64) @ DCT.T).round(3)
    bits = spectrum > np.median(spectrum)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@dataclass(kw_only=True)
class NearDuplicateFinder:
    """Collects the hashes of a data set's photos, to be compared at its end."""

    names: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def add(self, name: str, hash_: int, group: int) -> None:
        """Add a photo, with the index of its category as `group`."""
        self.names.append(name)
        self.hashes.append(hash_)
        self.groups.append(group)

    def compare(self) -> tuple[int, tuple[NearDuplicatePair, ...], list[str]]:
        """The number of photos that look like an earlier one, the first pairs, and warnings."""
        found = Neighbours.find(self.hashes, self.groups)
        across = np.flatnonzero(found.other_group >= 0)
        within = np.flatnonzero((found.any_group >= 0) & (found.other_group < 0))
        pairs = [
            *((found.other_group[photo], photo) for photo in across[:LISTED_PAIRS]),
            *((found.any_group[photo], photo) for photo in within[:LISTED_PAIRS]),
        ]
        named = tuple(
            NearDuplicatePair(first=self.names[first], second=self.names[second])
            for first, second in pairs[:LISTED_PAIRS]
        )
        warnings = []
        if len(across):
            warnings.append(
                f"{len(across)} photos look like one of another category, as {named[0].second!r}"
                f" like {named[0].first!r}: one of the two may be in the wrong folder."
            )
        return len(across) + len(within), named, warnings


def _first(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The index of each row's first True; -1 where there is none."""
    first = near.argmax(axis=1)
    return np.where(near[np.arange(len(near)), first], first, -1) if near.size else first
