"""Archive layout: assigns the files of an uploaded zip to categories, one folder per category.

Also accepted: one wrapping folder, deeper folders inside a category, an `attributes.csv`, and the
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

FLAG_UTF8 = 0x800
MAX_NAME = 100  # characters of a category's name
JOINERS = "\u200c\u200d"  # invisible, but Persian words and many emoji need them
ARCHIVE_SUFFIXES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".jar")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in the archive."""

    info: ZipInfo
    path: tuple[str, ...]  # folders, then the file's name

    @property
    def name(self) -> str:
        """The path for display: printable, at most 200 characters."""
        return printable("/".join(self.path))[:200]

    @property
    def is_named_image(self) -> bool:
        """Whether the suffix is that of an accepted image format; only the content decides."""
        return self.path[-1].lower().endswith(IMAGE_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The archive's files, in order of their paths."""

    categories: dict[str, list[Member]]  # by cleaned name, in code-point order
    outside: list[Member]
    has_attributes: bool


def list_members(archive: ZipFile) -> list[Member]:
    """The files of a checked archive, by path, without junk.

    Raises:
        DatasetError: two files have the same name, or a file is an archive itself.
    """
    members: dict[tuple[str, ...], Member] = {}
    for info in archive.infolist():
        path = tuple(part for part in _decode_name(info).split("/") if part not in ("", "."))
        if info.is_dir() or not path or any(_is_junk(part) for part in path):
            continue
        if path in members:
            raise DatasetError("duplicate_names", "Give every file its own name; two share one.")
        if path[-1].lower().endswith(ARCHIVE_SUFFIXES):
            raise nested_archive()
        members[path] = Member(info=info, path=path)
    return [members[path] for path in sorted(members)]


def arrange(members: Sequence[Member], limits: ArchiveLimits) -> Layout:
    """Group files by category.

    Raises:
        DatasetError: there is no folder, there are too many, or two names look the same.
    """
    if not members:
        raise DatasetError("empty_archive", "The zip is empty: add one folder per category.")
    depth = 1 if _is_wrapped(members) else 0
    folders: dict[str, list[Member]] = {}
    outside: list[Member] = []
    for member in members:
        if len(member.path) < depth + 2:
            outside.append(member)
        else:
            folders.setdefault(member.path[depth], []).append(member)
    if not folders:
        raise DatasetError("no_categories", "Put the photos into one folder per category.")
    if len(folders) > limits.categories:
        raise DatasetError("too_many_categories", f"Use at most {limits.categories} folders.")
    categories = {clean_name(folder): folders[folder] for folder in sorted(folders, key=clean_name)}
    if len(categories) < len(folders):
        raise DatasetError("duplicate_names", "Rename the folders: two names look the same.")
    others = [member for member in outside if member.path[-1].lower() != "attributes.csv"]
    has_attributes = len(others) < len(outside)
    return Layout(categories=categories, outside=others, has_attributes=has_attributes)


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


def _is_wrapped(members: Sequence[Member]) -> bool:
    """Whether the category folders are inside one common folder, which then holds no photo."""
    inside = [member for member in members if len(member.path) > 1]
    if len({member.path[0] for member in inside}) != 1:
        return False
    direct = [member for member in inside if len(member.path) == 2]
    return len(direct) < len(inside) and not any(member.is_named_image for member in direct)


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
