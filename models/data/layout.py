"""Archive layout: assigns the files of an uploaded zip to categories, one folder per category.

Also accepted: wrapping folders, deeper folders inside a category, an `attributes.csv`, and the
junk files that operating systems add.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from zipfile import ZipFile, ZipInfo

from models.data.archive import (
    ArchiveLimits,
    DatasetError,
    nested_archive,
    printable,
)
from models.data.category_names import JOINERS
from models.data.formats import SUFFIXES

FLAG_UTF8 = 0x800
ATTRIBUTES = "attributes.csv"
MAX_NAME = 100  # characters of a category's name
MAX_DEPTH = 32  # folders around a file; more make little data slow to sort
MAX_SHOWN = 200  # characters of a path in a report
ARCHIVE_SUFFIXES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".jar")

Path = tuple[str, ...]  # folders, then the file's name; NFC


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in the archive."""

    info: ZipInfo
    path: Path

    @property
    def name(self) -> str:
        """The path for display: printable, at most MAX_SHOWN characters."""
        return printable("/".join(self.path))[:MAX_SHOWN]

    @property
    def is_named_image(self) -> bool:
        """Whether the suffix is that of an accepted image format; only the content decides."""
        return self.path[-1].lower().endswith(SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The archive's files, in order of their paths."""

    categories: dict[str, list[Member]]  # by cleaned name, in code-point order
    outside: list[Member]
    attributes: Member | None  # the `attributes.csv`
    depth: int  # how many folders wrap the categories
    empty: tuple[str, ...]  # folders without a file, for display


def list_members(archive: ZipFile) -> list[Member]:
    """The files of a checked archive, by path, without junk.

    Raises:
        DatasetError: two files have the same name, a file is an archive itself, or folders are
            nested too deep.
    """
    members: dict[tuple[str, ...], Member] = {}
    for info in archive.infolist():
        path = _path(info)
        if info.is_dir() or not path:
            continue
        if path in members:
            raise DatasetError("duplicate_names", "Give every file its own name; two share one.")
        if path[-1].lower().endswith(ARCHIVE_SUFFIXES):
            raise nested_archive()
        members[path] = Member(info=info, path=path)
    return [members[path] for path in sorted(members)]


def list_folders(archive: ZipFile) -> list[Path]:
    """The folders that a checked archive names, without junk; it need not name any."""
    return sorted({_path(info) for info in archive.infolist() if info.is_dir()} - {()})


def arrange(
    members: Sequence[Member], limits: ArchiveLimits, folders: Sequence[Path] = ()
) -> Layout:
    """Group files by category; `folders` are those that the archive names.

    Raises:
        DatasetError: there is no folder, there are too many, or two names look the same.
    """
    if not members:
        raise DatasetError("empty_archive", "The zip is empty: add one folder per category.")
    depth = _wrapper_depth(members)
    groups: dict[str, list[Member]] = {}
    outside: list[Member] = []
    for member in members:
        if len(member.path) < depth + 2:
            outside.append(member)
        else:
            groups.setdefault(member.path[depth], []).append(member)
    if not groups:
        raise DatasetError("no_categories", "Put the photos into one folder per category.")
    if len(groups) > limits.categories:
        raise DatasetError("too_many_categories", f"Use at most {limits.categories} folders.")
    categories = {clean_name(folder): groups[folder] for folder in sorted(groups, key=clean_name)}
    if len(categories) < len(groups):
        raise DatasetError("duplicate_names", "Rename the folders: two names look the same.")
    tables = [member for member in outside if member.path[-1].lower() == ATTRIBUTES]
    others = [member for member in outside if member not in tables]
    return Layout(
        categories=categories,
        outside=others,
        attributes=min(tables, key=lambda member: len(member.path), default=None),
        depth=depth,
        empty=_empty(folders, members),
    )


def clean_name(folder: str) -> str:
    """A folder's name as a category name: NFC, one line, nothing invisible, at most MAX_NAME.

    Raises:
        DatasetError: nothing readable is left.
    """
    spaced = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", folder))
    visible = "".join(c for c in spaced if c.isprintable() or c in JOINERS)
    name = " ".join(visible.split())[:MAX_NAME].strip()
    if not name.strip(JOINERS):
        raise DatasetError("unsafe_path", "Give every folder a readable name.")
    return name


def _wrapper_depth(members: Sequence[Member]) -> int:
    """How many folders, one inside the other, wrap the folders of the categories."""
    depth = 0
    while _is_wrapped(members, depth):
        depth += 1
    return depth


def _is_wrapped(members: Sequence[Member], depth: int) -> bool:
    """Whether all folders at this depth are one, with further folders and no photo of its own."""
    inside = [member for member in members if len(member.path) > depth + 1]
    if len({member.path[depth] for member in inside}) != 1:
        return False
    direct = [member for member in inside if len(member.path) == depth + 2]
    return len(direct) < len(inside) and not any(member.is_named_image for member in direct)


def _empty(folders: Sequence[Path], members: Sequence[Member]) -> tuple[str, ...]:
    """The folders without a file, for display; not those inside another one of them."""
    if not folders:
        return ()
    filled = {member.path[:end] for member in members for end in range(len(member.path))}
    empty = {folder for folder in folders if folder not in filled}
    outer = sorted(folder for folder in empty if folder[:-1] not in empty)
    return tuple(printable("/".join(folder))[:MAX_SHOWN] for folder in outer)


def _path(info: ZipInfo) -> Path:
    """Folders and name of a member, NFC; empty for the junk that operating systems add."""
    name = unicodedata.normalize("NFC", _decode_name(info))
    path = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(path) > MAX_DEPTH + 1:
        raise DatasetError("unsafe_path", f"Nest folders at most {MAX_DEPTH} deep.")
    return () if any(_is_junk(part) for part in path) else path


def _decode_name(info: ZipInfo) -> str:
    """The name: UTF-8 if valid even without its flag (zips by macOS Finder), else CP437."""
    if info.flag_bits & FLAG_UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _is_junk(part: str) -> bool:
    return part.startswith(".") or part.lower() in ("__macosx", "thumbs.db", "desktop.ini")
