"""Archive layout: from paths in a zip to categories."""

import io
from zipfile import ZipFile, ZipInfo

import pytest

from models.data.archive import ArchiveLimits, DatasetError
from models.data.layout import (
    Layout,
    arrange,
    clean_name,
    list_folders,
    list_members,
)

LIMITS = ArchiveLimits(categories=3)


def layout(*names: str) -> Layout:
    """The layout of a zip with empty files and, by a slash at the end, folders of these names."""
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with ZipFile(file) as archive:
        return arrange(list_members(archive), LIMITS, list_folders(archive))


def paths(found: Layout) -> dict[str, list[str]]:
    """Member paths by category."""
    return {
        name: ["/".join(member.path) for member in members]
        for name, members in found.categories.items()
    }


def test_folders_are_categories_in_code_point_order() -> None:
    found = layout("shoes/2.png", "Hats/1.png", "shoes/1.png", "\u9774/1.png")
    assert list(found.categories) == ["Hats", "shoes", "靴"]
    assert paths(found)["shoes"] == ["shoes/1.png", "shoes/2.png"]


@pytest.mark.parametrize(
    "names",
    [
        ("photos/", "photos/hats/", "photos/hats/1.png", "photos/shoes/1.png"),
        ("photos/hats/1.png", "photos/shoes/1.png", "photos/README.txt", "notes.txt"),
        ("photos/hats/1.png", "./photos//shoes/1.png", "__MACOSX/photos/hats/._1.png"),
        ("photos/hats/1.png", "photos/shoes/1.png", "photos/.DS_Store", "photos/hats/Thumbs.db"),
    ],
)
def test_one_wrapping_folder_is_seen_through(names: tuple[str, ...]) -> None:
    assert paths(layout(*names)) == {
        "hats": ["photos/hats/1.png"],
        "shoes": ["photos/shoes/1.png"],
    }


@pytest.mark.parametrize("wrapper", ["a/", "a/b/", "a/b/c/", "a/" * 31])
def test_any_number_of_wrapping_folders_is_seen_through(wrapper: str) -> None:
    names = (f"{wrapper}hats/1.png", f"{wrapper}shoes/1.png", "notes.txt", f"{wrapper}notes.txt")
    found = layout(*names)
    assert list(found.categories) == ["hats", "shoes"]
    assert len(found.outside) == 2


def test_photos_in_a_wrapping_folder_make_it_a_category() -> None:
    assert list(layout("a/b/1.png", "a/b/hats/1.png", "a/b/shoes/1.png").categories) == ["b"]


def test_a_single_category_is_no_wrapping_folder() -> None:
    assert list(layout("shoes/1.png", "shoes/old/2.png").categories) == ["shoes"]
    assert list(layout("top/shoes/1.png", "top/shoes/old/2.png").categories) == ["shoes"]


def test_deeper_folders_belong_to_their_category() -> None:
    found = layout("hats/1.png", "shoes/new/1.png", "shoes/old/1.png")
    assert paths(found)["shoes"] == ["shoes/new/1.png", "shoes/old/1.png"]


def test_files_outside_folders_are_set_aside() -> None:
    found = layout("shoes/1.png", "stray.png", "attributes.csv")
    assert [member.name for member in found.outside] == ["stray.png"]
    assert found.attributes is not None
    assert found.attributes.name == "attributes.csv"
    assert layout("shoes/1.png").attributes is None


def test_names_that_differ_by_unicode_normalisation_are_one() -> None:
    """Zips by macOS hold decomposed names (NFD); shops type composed ones (NFC)."""
    found = layout("Gro\u0308\u00dfe/1.png", "Gr\u00f6\u00dfe/Mu\u0308tze.png")
    assert list(found.categories) == ["Gr\u00f6\u00dfe"]
    assert found.categories["Gr\u00f6\u00dfe"][1].name == "Gr\u00f6\u00dfe/M\u00fctze.png"
    assert clean_name("e\u0301") == "\u00e9"


def test_empty_folders_are_listed_once() -> None:
    names = ("shop/", "shop/hats/", "shop/bags/", "shop/bags/new/", "shop/.git/", "shop/shoes/")
    found = layout(*names, "shop/shoes/1.png", "shop/coats/1.png", "shop/hats/.DS_Store")
    assert found.empty == ("shop/bags", "shop/hats")


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ((), "empty_archive"),
        (("shoes/", ".DS_Store", "__MACOSX/shoes/._1.png"), "empty_archive"),
        (("1.png", "2.png"), "no_categories"),
        (("attributes.csv",), "no_categories"),
        (("a/1.png", "a//1.png"), "duplicate_names"),
        (("a/1.png", "a/./1.png"), "duplicate_names"),
        (("shoes/1.png", "sh\u202eoes/1.png"), "duplicate_names"),
        (("e\u0301/1.png", "\u00e9/1.png"), "duplicate_names"),
        (("a/e\u0301.png", "a/\u00e9.png"), "duplicate_names"),
        (("a/1.png", "a/more.zip"), "nested_archive"),
        (("a/1.png", "a/MORE.TAR.GZ"), "nested_archive"),
        (("\u202e/1.png",), "unsafe_path"),
        (("a/" * 33 + "1.png",), "unsafe_path"),
        (("a/1.png", "b/1.png", "c/1.png", "d/1.png"), "too_many_categories"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(names: tuple[str, ...], code: str) -> None:
    with pytest.raises(DatasetError) as caught:
        layout(*names)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("T-shirt", "T-shirt"),
        ("靴 下", "靴 下"),
        ("👩‍🦰 ❤️", "👩‍🦰 ❤️"),
        ("می‌خواهم", "می‌خواهم"),
        ("a\r\nSet-Cookie: b", "a Set-Cookie: b"),
        ("\u202egnp\u2066", "gnp"),
        ("bell\x07 \u200bshoe", "bell shoe"),
        ("  wide\u3000\u00a0space ", "wide space"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_are_made_safe(folder: str, name: str) -> None:
    assert clean_name(folder) == name


@pytest.mark.parametrize("folder", [" ", "\x01\x02", "\u200d", "\ufeff"])
def test_a_name_with_nothing_readable_is_refused(folder: str) -> None:
    with pytest.raises(DatasetError, match="readable name"):
        clean_name(folder)


def test_utf8_names_without_the_flag_are_read_as_utf8() -> None:
    """As zips by the macOS Finder hold them; other names stay CP437."""
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr(ZipInfo("XXXXXX/1.png"), b"")
        archive.writestr(ZipInfo("YY/1.png"), b"")
    data = file.getvalue().replace(b"XXXXXX", "靴下".encode()).replace(b"YY", "Ä1".encode("cp437"))
    with ZipFile(io.BytesIO(data)) as archive:
        assert list(arrange(list_members(archive), LIMITS).categories) == ["Ä1", "靴下"]


def test_shown_names_are_printable_and_short() -> None:
    found = layout(f"shoes/\u202e\n{'x' * 300}.png")
    assert found.categories["shoes"][0].name.startswith("shoes/\ufffd\ufffdxxx")
    assert len(found.categories["shoes"][0].name) == 200
