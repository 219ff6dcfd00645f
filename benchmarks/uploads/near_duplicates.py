"""python -m benchmarks.uploads.near_duplicates --archive PHOTOS.zip: detection rates.

Prints, for each Hamming distance between hashes, the share of re-encoded, rescaled and edited
copies that is found, and the pairs of different photos that are taken for copies; then the time to
compare many photos.
"""

import argparse
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import machine
from models.data.archive import ArchiveLimits, open_archive, read_member
from models.data.layout import list_members
from models.data.near_duplicates import MAX_DISTANCE, Neighbours, perceptual_hash
from models.data.photos import ImageError, decode

DISTANCES = (0, 2, 4, 6, 8, 10)
MAX_SIDE = 512
SHOWN = 20  # names of pairs


def decoded(path: Path) -> Iterator[tuple[str, Image.Image]]:
    """The photos of a zip, by name."""
    with path.open("rb") as file, open_archive(file, ArchiveLimits()) as archive:
        for member in list_members(archive):
            try:
                yield member.name, decode(read_member(archive, member.info), max_side=MAX_SIDE)
            except ImageError:
                continue


def copies(image: Image.Image) -> dict[str, Image.Image]:
    """Copies of a photo as shops and their tools make them."""
    width, height = image.size
    half = image.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    third = image.resize((width // 3, height // 3), Image.Resampling.BICUBIC)
    double = image.resize((width * 2, height * 2), Image.Resampling.BILINEAR)
    cut = image.crop((width // 50, height // 50, width - width // 50, height - height // 50))
    return {
        "JPEG, quality 75": encoded(image, "jpeg", 75),
        "JPEG, quality 40": encoded(image, "jpeg", 40),
        "WebP, quality 80": encoded(image, "webp", 80),
        "half the size, JPEG 85": encoded(half, "jpeg", 85),
        "a third of the size, JPEG 80": encoded(third, "jpeg", 80),
        "twice the size, JPEG 85": encoded(double, "jpeg", 85),
        "10 % brighter, JPEG 85": encoded(image.point(lambda v: min(255, v * 1.1)), "jpeg", 85),
        "2 % cut off each side (edited)": encoded(cut, "jpeg", 85),
        "mirrored (another picture)": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }


def encoded(image: Image.Image, image_format: str, quality: int) -> Image.Image:
    """The photo after encoding and decoding."""
    file = BytesIO()
    image.save(file, image_format, quality=quality)
    return decode(file.getvalue(), max_side=MAX_SIDE)


def pair_counts(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs of photos by the distance of their hashes, (65,)."""
    counts = np.zeros(65, dtype=np.int64)
    for index in range(1, len(hashes)):
        distances = np.bitwise_count(hashes[:index] ^ hashes[index])
        counts += np.bincount(distances, minlength=65)
    return counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--every", type=int, default=7, help="photos of which copies are made")
    parser.add_argument("--photos", type=int, default=100_000, help="how many to compare")
    options = parser.parse_args()
    names: list[str] = []
    hashes: list[int] = []
    found: dict[str, list[int]] = {}
    for index, (name, image) in enumerate(decoded(options.archive)):
        names.append(name)
        hashes.append(perceptual_hash(image))
        if index % options.every == 0:
            for kind, copy in copies(image).items():
                distance = (perceptual_hash(copy) ^ hashes[-1]).bit_count()
                found.setdefault(kind, []).append(distance)
    _print_rates(found, np.array(hashes, dtype=np.uint64))
    groups = [hash(name.split("/")[-2]) for name in names]
    neighbours = Neighbours.find(hashes, groups)
    near = np.flatnonzero(neighbours.any_group >= 0)
    print(f"\n{len(near)} photos look like an earlier one, at most {MAX_DISTANCE} bits away")
    for index in near[:SHOWN]:
        print(f"  {names[neighbours.any_group[index]]}  {names[index]}")
    _time(options.photos)


def _print_rates(found: dict[str, list[int]], hashes: NDArray[np.uint64]) -> None:
    print(f"{len(hashes)} photos, copies of {len(next(iter(found.values())))}; found at most")
    print(f"  {'bits away, percent':<34}" + "".join(f"{distance:>10}" for distance in DISTANCES))
    for kind, distances in found.items():
        rates = (100 * np.mean(np.array(distances) <= distance) for distance in DISTANCES)
        print(f"  {kind:<34}" + "".join(f"{rate:>10.2f}" for rate in rates))
    pairs = pair_counts(hashes).cumsum()
    shown = "".join(f"{pairs[distance]:>10}" for distance in DISTANCES)
    print(f"  {'pairs of different photos':<34}{shown}  of {pairs[-1]}")


def _time(count: int) -> None:
    """Time the comparison of random hashes, and of equal hashes, which are the worst case."""
    rng = np.random.default_rng(0)
    groups = [int(group) for group in rng.integers(0, 10, count)]
    cases = {"unlike": rng.integers(0, 2**64, count, dtype=np.uint64), "alike": np.zeros(count)}
    print(f"\nComparing {count} photos, seconds; {machine()}")
    for name, hashes in cases.items():
        values = [int(value) for value in hashes]
        started = time.perf_counter()
        Neighbours.find(values, groups)
        print(f"  {name:<34}{time.perf_counter() - started:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
