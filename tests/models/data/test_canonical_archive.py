"""Uploads to canonical zips: what is kept, what is skipped, what is refused."""

import io
import json
import tempfile
from collections.abc import Iterator
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.data.archive import ArchiveLimits, DatasetError
from models.data.canonical_archive import import_archive, map_ahead
from models.data.report import DatasetReport
from tests.models.pictures import many_exif_segments, noise, saved, shop, two_tone, zipped

LIMITS = ArchiveLimits(min_images=4)
SUBFOLDERS = [("hats/1.png", saved(noise(101))), ("shoes/1.png", saved(noise(102)))]


def imported(
    members: dict[str, bytes], limits: ArchiveLimits = LIMITS
) -> tuple[DatasetReport, dict[str, bytes]]:
    """The report, and the canonical zip's members."""
    target = io.BytesIO()
    report = import_archive(zipped(members), target, limits)
    with ZipFile(target) as archive:
        assert {info.compress_type for info in archive.infolist()} == {ZIP_STORED}
        return report, {name: archive.read(name) for name in archive.namelist()}


def test_an_upload_becomes_numbered_photos_by_category() -> None:
    members = shop(shoes=3, hats=2)
    report, photos = imported(members)
    assert list(photos) == [
        *("000/000000.png", "000/000001.png"),
        *("001/000000.png", "001/000001.png", "001/000002.png"),
    ]
    assert [(c.name, c.images, c.skipped) for c in report.categories] == [
        ("hats", 2, 0),
        ("shoes", 3, 0),
    ]
    with Image.open(io.BytesIO(photos["001/000002.png"])) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(noise(2)))
    assert (report.images, report.grey, report.imbalance) == (5, False, 1.5)
    assert (report.skipped, report.skipped_counts) == ((), {})


def test_the_order_of_members_and_a_wrapping_folder_change_nothing() -> None:
    members = shop(a=3, b=3)
    first, second = io.BytesIO(), io.BytesIO()
    report = import_archive(zipped(members), first, LIMITS)
    moved = {f"top/{name}": members[name] for name in reversed(list(members))}
    assert import_archive(zipped(moved), second, LIMITS) == report
    assert first.getvalue() == second.getvalue()


def test_the_fingerprint_depends_on_pixels_and_names() -> None:
    renamed = {name.replace("b/", "c/"): data for name, data in shop(a=3, b=3).items()}
    changed = {**shop(a=3, b=3), "a/0.png": saved(noise(99))}
    reports = [imported(members)[0] for members in (shop(a=3, b=3), renamed, changed)]
    assert len({report.fingerprint for report in reports}) == 3


def test_bad_files_among_good_ones_are_reported_and_skipped() -> None:
    bad = {
        "a/broken.png": saved(noise(90))[:200],
        "a/scrambled.jpg": b"no image at all",
        "a/drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a/photo.jp2": saved(noise(91), "jpeg2000"),
        "a/disguised.png": saved(noise(92), "eps"),
        "a/tiny.png": saved(noise(93, (40, 15))),
        "a/again.png": saved(noise(0)),
        "b/again.png": saved(noise(0)),
        "a/notes.txt": b"remember the milk",
        "stray.png": saved(noise(94)),
    }
    report, photos = imported({**shop(a=3, b=3), **bad})
    assert len(photos) == 6
    # By path, so "a/0.png" comes before "a/again.png" and is the one that is kept.
    assert {(item.name, item.reason) for item in report.skipped} == {
        ("a/broken.png", "corrupt"),
        ("a/scrambled.jpg", "corrupt"),
        ("a/drawing.svg", "unsupported"),
        ("a/photo.jp2", "unsupported"),
        ("a/disguised.png", "unsupported"),
        ("a/tiny.png", "too_small"),
        ("a/again.png", "duplicate"),
        ("b/again.png", "duplicate"),
        ("a/notes.txt", "not_an_image"),
        ("stray.png", "outside_category"),
    }
    assert [(c.images, c.skipped) for c in report.categories] == [(3, 8), (3, 1)]
    assert sum(report.skipped_counts.values()) == 10
    assert report.skipped_counts["unsupported"] == 3


def test_the_suffix_means_nothing() -> None:
    members = {name.replace(".png", ".jpg"): data for name, data in shop(a=4).items()}
    assert list(imported(members)[1])[0] == "000/000000.png"


def test_a_member_over_the_byte_limit_is_skipped_unread() -> None:
    limits = ArchiveLimits(min_images=4, member_bytes=10_000)
    large = saved(noise(9, (100, 100)))
    report, _ = imported({**shop(a=4), "a/large.png": large}, limits)
    assert report.skipped_counts == {"too_large": 1}


def test_only_the_first_skipped_files_are_listed_but_all_are_counted() -> None:
    report, _ = imported({**shop(a=4), **{f"a/{n}.txt": b"x" for n in range(150)}})
    assert len(report.skipped) == 100
    assert report.skipped_counts == {"not_an_image": 150}


def test_large_photos_shrink_and_sides_are_the_uploads() -> None:
    report, photos = imported({**shop(a=4), "a/big.jpg": saved(noise(5, (1000, 500)), "jpeg")})
    with Image.open(io.BytesIO(photos["000/000004.jpg"])) as image:
        assert image.size == (512, 256)
    assert (report.smallest_side, report.median_side, report.largest_side) == (30, 40, 1000)


def test_grey_photos_stored_as_colour_make_a_grey_data_set() -> None:
    members = {f"a/{n}.jpg": saved(noise(n, mode="L").convert("RGB"), "jpeg") for n in range(4)}
    assert imported(members)[0].grey
    assert not imported({**members, "a/5.png": saved(two_tone())})[0].grey


def test_a_category_with_too_few_photos_is_dropped_but_its_photo_may_stay_elsewhere() -> None:
    members = {**shop(b=3), "a/0.png": saved(noise(0)), "c/0.png": saved(noise(7))}
    report, photos = imported(members, ArchiveLimits(min_images=3))
    assert [category.name for category in report.categories] == ["b"]
    assert len(photos) == 3
    assert [w for w in report.warnings if "left out" in w] == [
        "Category 'a' was left out: it has too few usable images.",
        "Category 'c' was left out: it has too few usable images.",
    ]


def test_imbalance_and_small_categories_are_warned_of() -> None:
    report, _ = imported(shop(a=22, b=2))
    assert report.imbalance == 11
    assert report.warnings == (
        "The largest category has 11 times the smallest's images.",
        "Fewer than 50 images in: a, b.",
    )


def warned(members: dict[str, bytes], about: str) -> list[str]:
    """The report's warnings that hold these words."""
    return [warning for warning in imported(members)[0].warnings if about in warning]


def test_empty_folders_are_warned_of() -> None:
    members = {**shop(a=3, b=3), "hats/": b"", "b/": b""}
    assert warned(members, "Empty") == ["Empty folders: 'hats'."]


def test_categories_of_nearly_the_same_name_are_warned_of() -> None:
    members = shop(**{"Dress": 2, "dress": 2, "Été": 2, "ete": 2, "hat": 2, "は": 2, "ば": 2})
    assert warned(members, "same name") == [
        "'Dress' and 'dress' have nearly the same name: if they are one category, make one folder.",
        "'ete' and 'Été' have nearly the same name: if they are one category, make one folder.",
    ]


def test_a_single_category_is_warned_of() -> None:
    (warning,) = warned(shop(a=4), "only category")
    assert "'a'" in warning
    assert warned(shop(a=2, b=2), "only category") == []


def test_folders_that_become_one_category_are_warned_of() -> None:
    members = {f"x/{name}": data for name, data in SUBFOLDERS}
    (warning,) = warned({**members, **shop(b=2)}, "sub-folders")
    assert "several sub-folders: 'x' ('hats', 'shoes')." in warning
    assert warned(shop(a=2, b=2), "sub-folders") == []


def test_a_photo_beside_the_folders_that_wrap_categories_merges_them_with_a_warning() -> None:
    members = {f"all/photos/{name}": data for name, data in shop(a=2, b=2).items()}
    (warning,) = warned({**members, "all/logo.png": saved(noise(91))}, "sub-folders")
    assert "'all' ('photos/a', 'photos/b')" in warning


def test_files_of_other_formats_are_told_which_are_read() -> None:
    (warning,) = warned({**shop(a=9, b=9), "a/photo.jp2": saved(noise(91), "jpeg2000")}, "Convert")
    formats = "PNG, JPEG, WebP, HEIC, AVIF, GIF, TIFF or BMP"
    assert warning == f"Files that are no {formats} of 8 or 16 bits: 1. Convert them."


def test_many_skipped_files_are_warned_of_by_reason() -> None:
    few = {**shop(a=5, b=5), **{f"a/{n}.txt": b"x" for n in range(2)}}
    assert warned(few, "skipped") == []
    many = {**few, "a/2.txt": b"x", "b/broken.png": saved(noise(90))[:200]}
    (warning,) = warned(many, "skipped")
    assert warning.startswith("4 of 14 files were skipped (1 corrupt, 3 not_an_image), such as ")
    assert "'a/0.txt'" in warning


def test_too_many_pixels_are_refused_whatever_their_bytes() -> None:
    limits = ArchiveLimits(min_images=4, pixels=40 * 30 * 7)
    assert imported(shop(a=7), limits)[0].images == 7
    with pytest.raises(DatasetError, match="at most 8,400 pixels") as caught:
        imported(shop(a=8), limits)
    assert caught.value.code == "too_large"


def test_a_photo_that_takes_too_long_is_skipped() -> None:
    report, _ = imported(
        {**shop(a=4), "a/slow.jpg": many_exif_segments()},
        ArchiveLimits(min_images=4, photo_s=1),
    )
    assert [(item.name, item.reason) for item in report.skipped] == [("a/slow.jpg", "too_slow")]


def test_photos_of_every_accepted_format_become_a_data_set() -> None:
    formats = ("png", "jpeg", "webp", "heif", "avif", "gif", "tiff", "bmp")
    members = {f"a/{n}.jpg": saved(noise(n), name) for n, name in enumerate(formats)}
    report, photos = imported(members)
    assert (report.images, report.skipped) == (8, ())
    assert {name.rpartition(".")[2] for name in photos} == {"png", "jpg"}


def test_too_few_photos_are_refused_with_the_formats_that_count() -> None:
    with pytest.raises(DatasetError) as caught:
        imported(shop(a=3))
    for name in ("PNG", "JPEG", "WebP", "HEIC", "AVIF", "GIF", "TIFF", "BMP"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "empty_archive"),
        ({"1.png": saved(noise(0))}, "no_categories"),
        ({"a/1.png": saved(noise(0))}, "too_few_images"),
        ({"a/1.txt": b"", "b/2.txt": b""}, "too_few_images"),
        (shop(a=3), "too_few_images"),
        ({f"a/{n}.png": saved(noise(0)) for n in range(9)}, "too_few_images"),
        ({**shop(a=4), "a/fine.png": zipped(shop(b=1)).getvalue()}, "nested_archive"),
    ],
)
def test_an_unusable_upload_is_refused(members: dict[str, bytes], code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        imported(members)
    assert caught.value.code == code


def test_names_that_occur_twice_are_refused() -> None:
    data = zipped(shop(a=4)).getvalue().replace(b"a/1.png", b"a/0.png")
    with pytest.raises(DatasetError) as caught:
        import_archive(io.BytesIO(data), io.BytesIO(), LIMITS)
    assert caught.value.code == "duplicate_names"


def test_an_upload_can_be_a_spooled_file() -> None:
    with tempfile.SpooledTemporaryFile(10) as source, tempfile.SpooledTemporaryFile(10) as target:
        source.write(zipped(shop(a=4)).getvalue())
        assert import_archive(source, target, LIMITS).images == 4


def test_a_report_survives_json() -> None:
    report, _ = imported({**shop(a=4), "a/notes.txt": b"x"})
    data = report.to_json()
    assert json.loads(json.dumps(data)) == data
    assert DatasetReport.from_json(data) == report


def test_map_ahead_keeps_the_order_and_stays_close_to_its_consumer() -> None:
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(100):
            drawn.append(n)
            yield n

    results = map_ahead(lambda n: n * n, numbers())
    assert next(results) == 0
    assert len(drawn) < 10
    assert list(results) == [n * n for n in range(1, 100)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_uploads_are_imported_or_refused(data: st.DataObject) -> None:
    content = bytearray(zipped(shop(a=3, b=3)).getvalue())
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = import_archive(io.BytesIO(content), io.BytesIO(), ArchiveLimits(min_images=1))
    except DatasetError:
        return
    assert report.images + sum(report.skipped_counts.values()) <= 6
