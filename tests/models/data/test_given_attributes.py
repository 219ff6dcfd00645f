"""The `attributes.csv` of an upload: what is kept, what is left out, and what is refused."""

import io
import random

import pytest

from models.data import given_attributes
from models.data.archive import ArchiveLimits, DatasetError
from models.data.canonical_archive import convert_archive
from models.data.given_attributes import MAX_BYTES, GivenAttributes
from tests.models.pictures import shop, zipped

LIMITS = ArchiveLimits(min_images=2)


def converted(table: bytes, folder: str = "") -> tuple[GivenAttributes, list[str]]:
    """What an upload with this table gives, and the warnings about it."""
    files = {f"{folder}{name}": content for name, content in shop(hat=2, shoes=2).items()}
    upload = zipped({**files, f"{folder}attributes.csv": table})
    report, given = convert_archive(upload, io.BytesIO(), LIMITS)
    return given, [each for each in report.warnings if each.startswith("attributes.csv")]


@pytest.mark.parametrize(
    "table",
    [
        b"file,color,material\nhat/0.png,navy,wool\nshoes/1.png,#112233,\n",
        b"\xef\xbb\xbfFile;Color;Material\r\nhat/0.png;navy;wool\r\nshoes/1.png;#112233;\r\n",
        b'color,file,material\nnavy,"hat//0.png",wool\n\n#112233,./shoes\\1.png,\n',
    ],
)
def test_rows_are_kept_by_the_stored_photo(table: bytes) -> None:
    given, warnings = converted(table)
    assert warnings == []
    assert given.of("000/000000.png") == {"color": "navy", "material": "wool"}
    assert given.of("001/000001.png") == {"color": "#112233"}
    assert given.of("000/000001.png") == {}


@pytest.mark.parametrize("row", [b"top/hat/1.png,red\n", b"hat/1.png,red\n"])
def test_paths_may_begin_at_the_tables_folder(row: bytes) -> None:
    given, warnings = converted(b"file,color\n" + row, folder="top/")
    assert warnings == []
    assert given.of("000/000001.png") == {"color": "red"}


def test_rows_of_other_files_and_bad_rows_are_warned_of() -> None:
    table = b"file,color\nhat/9.png,red\nhat/0.png\nhat/1.png,#12\n,red\nshoes/0.png,red\n"
    given, warnings = converted(table + b"shoes/0.png,blue\n")
    assert given.rows == {"001/000000.png": ("red",)}
    bad, unknown = warnings
    assert bad.startswith("attributes.csv: 4 lines were left out, such as line 3, 4, 5, 7:")
    assert unknown.startswith("attributes.csv: 1 rows name no photo that was kept, such as 'hat/9")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"", "needs a first line"),
        (b"name,color\nhat/0.png,red\n", "needs a first line"),
        (b"file\nhat/0.png\n", "needs a first line"),
        (b"file,color,color\n", "a name of its own"),
        (b"file," + b",".join(b"c%d" % n for n in range(17)), "16 columns"),
        ("file,color\nhat/0.png,gr\u00fcn\n".encode("latin-1"), "is not UTF-8"),
        ("file,color\n".encode("utf-16"), "is not UTF-8"),
        (b"file,color\nhat/0.png," + b"x" * 200_000, "is no CSV"),
        (b"file,color\n" + random.Random(0).randbytes(MAX_BYTES), "is larger than"),
    ],
)
def test_a_table_that_cannot_be_read_refuses_the_upload(table: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason) as caught:
        converted(table)
    assert caught.value.code == "invalid_attributes"


def test_names_of_other_scripts_are_one_in_all_spellings() -> None:
    given, _ = given_attributes.parse("file,color\nMu\u0308tzen/1.png,gr\u00fcn\n".encode())
    assert given.rows == {"M\u00fctzen/1.png": ("gr\u00fcn",)}
