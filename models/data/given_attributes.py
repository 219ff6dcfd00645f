"""Given attributes: what a shop says of its photos in an `attributes.csv` at the top of its zip.

The column `file` is a photo's path in the zip, or from the folder that holds the `attributes.csv`
on. `color` is a name or `#RRGGBB`; further columns are kept as they are. What is given overrides
what is measured.
"""

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.data.archive import DatasetError, MemberError, printable, read_member
from models.data.layout import ATTRIBUTES, Member

MAX_BYTES = 4 * 2**20
MAX_COLUMNS = 16  # beside `file`
MAX_TEXT = 200  # characters of a value, or of a column's name
SHOWN = 5  # rows in one warning
HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class GivenAttributes:
    """Values by photo; a photo has one for each column, empty where it was not given."""

    columns: tuple[str, ...] = ()
    rows: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by the photo's name

    def of(self, name: str) -> dict[str, str]:
        """What is given of a photo, by column."""
        values = self.rows.get(name, ())
        return {key: value for key, value in zip(self.columns, values, strict=False) if value}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "GivenAttributes":
        """The inverse of `dataclasses.asdict`, also after a round trip through JSON text."""
        rows = {name: tuple(values) for name, values in stored["rows"].items()}
        return cls(tuple(stored["columns"]), rows)


def read_attributes(
    archive: zipfile.ZipFile, table: Member | None
) -> tuple[GivenAttributes, list[str]]:
    """The table's rows by path in the zip, and warnings; nothing if there is no table.

    Raises:
        DatasetError: the table cannot be read; the message says what to do.
    """
    if table is None:
        return GivenAttributes(), []
    if table.info.file_size > MAX_BYTES:  # before it is unpacked
        raise _too_large()
    try:
        given, warnings = parse(read_member(archive, table.info))
    except MemberError as error:
        raise _invalid("is damaged: zip it anew") from error
    folder = "".join(f"{part}/" for part in table.path[:-1])
    rows = {
        path if path.startswith(folder) else folder + path: row for path, row in given.rows.items()
    }
    return GivenAttributes(given.columns, rows), warnings


def parse(content: bytes) -> tuple[GivenAttributes, list[str]]:
    """The rows by path in the zip, and warnings of rows that were left out.

    Raises:
        DatasetError: the file cannot be read; the message says what to do.
    """
    if len(content) > MAX_BYTES:
        raise _too_large()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid("is not UTF-8: save it as CSV UTF-8") from error
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","  # as spreadsheets choose
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise _invalid("is no CSV: quote values that hold commas or quotes") from error
    columns = _columns(lines[0] if lines else [])
    return _rows(columns, lines[1:])


def matched(given: GivenAttributes, files: Mapping[str, str]) -> tuple[GivenAttributes, list[str]]:
    """The rows by the stored names of their photos, of which `files` has the paths in the zip."""
    rows = {files[path]: values for path, values in given.rows.items() if path in files}
    unknown = [path for path in given.rows if path not in files]
    warnings = []
    if unknown:
        warnings.append(
            f"{ATTRIBUTES}: {len(unknown)} rows name no photo that was kept, such as"
            f" {_listed(unknown)}: `file` is the path in the zip."
        )
    return GivenAttributes(given.columns, rows), warnings


def _columns(header: Sequence[str]) -> list[str]:
    columns = [printable(name.strip().lower()) for name in header]
    if "file" not in columns or len(columns) < 2:
        raise _invalid("needs a first line with `file` and other columns, such as `file,color`")
    if len(set(columns)) < len(columns) or "" in columns:
        raise _invalid("needs a name of its own for every column")
    if len(columns) > MAX_COLUMNS + 1 or max(map(len, columns)) > MAX_TEXT:
        raise _invalid(f"may have {MAX_COLUMNS} columns beside `file`, with short names")
    return columns


def _rows(
    columns: Sequence[str], lines: Sequence[Sequence[str]]
) -> tuple[GivenAttributes, list[str]]:
    place = columns.index("file")
    rows: dict[str, tuple[str, ...]] = {}
    bad: list[str] = []
    for number, line in enumerate(lines, start=2):
        values = [printable(value.strip()) for value in line]
        if not any(values):
            continue
        path = _path(values[place]) if len(values) == len(columns) else ""
        given = dict(zip(columns, values, strict=False))
        color = given.get("color", "")
        is_wrong = color.startswith("#") and not HEX.fullmatch(color)
        if not path or path in rows or is_wrong or max(map(len, values)) > MAX_TEXT:
            bad.append(str(number))
            continue
        rows[path] = tuple(value for name, value in given.items() if name != "file")
    warnings = []
    if bad:
        warnings.append(
            f"{ATTRIBUTES}: {len(bad)} lines were left out, such as line {', '.join(bad[:SHOWN])}:"
            f" each needs a value for every column, of at most {MAX_TEXT} characters, a file that"
            " no other line names, and a color that is a name or #RRGGBB."
        )
    others = tuple(name for name in columns if name != "file")
    return GivenAttributes(others, rows), warnings


def _path(text: str) -> str:
    """A path as paths of members are written: NFC, with single slashes."""
    parts = unicodedata.normalize("NFC", text.replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(repr(path) for path in paths[:SHOWN])


def _too_large() -> DatasetError:
    """The error for a table of more than `MAX_BYTES`."""
    return _invalid(f"is larger than {MAX_BYTES:,} bytes: leave columns or rows out")


def _invalid(what: str) -> DatasetError:
    """The error for a table that cannot be read; `what` says what it is and what to do."""
    return DatasetError("invalid_attributes", f"{ATTRIBUTES} {what}.")
