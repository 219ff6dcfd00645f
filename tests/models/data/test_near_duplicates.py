"""Near-duplicate detection: hashes that survive re-encoding, and finding near ones among many."""

import io
import json

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.data.archive import ArchiveLimits
from models.data.canonical_archive import import_archive
from models.data.near_duplicates import MAX_DISTANCE, Neighbours, perceptual_hash
from models.data.report import DatasetReport
from tests.models.pictures import noise, saved, shop, zipped


def scene(seed: int) -> Image.Image:
    """Blurred shapes, different for each seed."""
    return noise(seed, (12, 9)).resize((240, 180), Image.Resampling.BICUBIC)


def reported(members: dict[str, bytes]) -> DatasetReport:
    return import_archive(zipped(members), io.BytesIO(), ArchiveLimits(min_images=4))


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_the_one_that_others_compute(seed: int) -> None:
    for picture in (scene(seed), noise(seed, (300, 200)), noise(seed, (31, 33), "L")):
        bits = imagehash.phash(picture).hash.flatten()
        assert perceptual_hash(picture) == int("".join("01"[int(bit)] for bit in bits), 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_photo_stays_near_itself_however_it_is_encoded(seed: int) -> None:
    original = scene(seed)
    copies = [
        Image.open(io.BytesIO(saved(original, "jpeg", quality=60))),
        Image.open(io.BytesIO(saved(original, "webp", quality=70))),
        original.resize((120, 90)),
        original.resize((480, 360)),
        original.convert("L"),
    ]
    for copy in copies:
        assert (perceptual_hash(copy) ^ perceptual_hash(original)).bit_count() <= MAX_DISTANCE
    assert (perceptual_hash(scene(99)) ^ perceptual_hash(original)).bit_count() > 10


def test_a_flat_picture_has_a_hash() -> None:
    assert perceptual_hash(Image.new("RGB", (50, 50), "red")) == 1 << 63
    assert perceptual_hash(Image.new("L", (50, 50), 0)) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2)), max_size=40), st.integers(0, 4))
def test_neighbours_are_those_that_a_plain_search_finds(
    photos: list[tuple[int, int]], distance: int
) -> None:
    found = Neighbours.find([h for h, _ in photos], [g for _, g in photos], distance)
    for index, (hash_, group) in enumerate(photos):
        near = [i for i in range(index) if (photos[i][0] ^ hash_).bit_count() <= distance]
        others = [i for i in near if photos[i][1] != group]
        assert found.any_group[index] == (near[0] if near else -1)
        assert found.other_group[index] == (others[0] if others else -1)


def test_blocks_do_not_change_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [int(h) for h in np.random.default_rng(0).integers(0, 2**10, 500)]
    groups = [index % 3 for index in range(500)]
    whole = Neighbours.find(hashes, groups, 1)
    monkeypatch.setattr("models.data.near_duplicates.CELLS", 3500)
    pieces = Neighbours.find(hashes, groups, 1)
    np.testing.assert_array_equal(whole.any_group, pieces.any_group)
    np.testing.assert_array_equal(whole.other_group, pieces.other_group)


def test_a_report_tells_of_photos_that_look_alike_and_keeps_them() -> None:
    members = {
        **{f"a/{n}.png": saved(scene(n)) for n in range(3)},
        **{f"b/{n}.png": saved(scene(n)) for n in range(3, 6)},
        "a/again.jpg": saved(scene(0), "jpeg", quality=80),
        "b/small.png": saved(scene(1).resize((120, 90))),
    }
    report = reported(members)
    assert (report.images, report.near_duplicates) == (8, 2)
    pairs = [(pair.first, pair.second) for pair in report.near_duplicate_pairs]
    assert pairs == [("a/1.png", "b/small.png"), ("a/0.png", "a/again.jpg")]
    assert report.warnings[-1] == (
        "1 photos look like one of another category, as 'b/small.png' like 'a/1.png': one of the"
        " two may be in the wrong folder."
    )
    assert DatasetReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_only_the_first_pairs_are_listed_but_all_photos_are_counted() -> None:
    copies = {
        f"a/{n:03d}.jpg": saved(scene(0), "jpeg", quality=60 + n // 4, subsampling=n % 3)
        for n in range(150)
    }
    report = reported(copies)
    assert report.near_duplicates == report.images - 1 > 100
    assert len(report.near_duplicate_pairs) == 100


def test_a_report_from_before_can_be_read() -> None:
    fields = reported(shop(a=4)).to_json()
    assert (fields.pop("near_duplicates"), fields.pop("near_duplicate_pairs")) == (0, [])
    assert DatasetReport.from_json(fields) == reported(shop(a=4))
