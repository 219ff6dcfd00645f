"""Zip validation (zip bombs, unsafe paths) before anything is unpacked, and bounded member reads.

Nothing is ever extracted to a path. Members are read one at a time, and never more bytes of one
than the directory declares, so the limits hold for forged archives too.
"""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Literal
from zipfile import ZipInfo

DatasetErrorCode = Literal[
    "not_a_zip",
    "empty_archive",
    "no_categories",
    "too_many_categories",
    "too_few_images",
    "unsafe_path",
    "suspicious_archive",
    "nested_archive",
    "encrypted_archive",
    "unsupported_compression",
    "duplicate_names",
    "too_many_members",
    "too_large",
    "invalid_attributes",
    "invalid_dataset",  # decoding exceeded a limit or crashed its process
]

RATIO_FREE_BYTES = 2**20  # below this the ratio is not checked: a flat drawing may shrink 1000-fold
LOCAL_HEADER_BYTES = 30
FLAG_ENCRYPTED = 0x1
ARCHIVE_MAGIC = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c",
    b"\x1f\x8b\x08",
)
DIRECTORY_ENTRY_BYTES = 512  # with a long name; shorter names compensate for longer ones
DIRECTORY_ENTRY_MAGIC = b"PK\x01\x02"
DRIVE_LETTER = re.compile(r"^[A-Za-z]:")


class DatasetError(ValueError):
    """An upload that cannot become a data set; the message says what to do about it."""

    def __init__(self, code: DatasetErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: DatasetErrorCode = code


class MemberError(Exception):
    """One member's bytes are damaged; the rest of the archive may be fine."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Upper and lower limits of an upload."""

    members: int = 200_000
    categories: int = 1000
    total_bytes: int = 20 * 2**30  # unpacked
    member_bytes: int = 64 * 2**20  # unpacked; a larger member is skipped, not read
    pixels: int = 30 * 10**9  # of all photos, as uploaded: 30,000 of one megapixel
    photo_s: int = 10  # CPU time of decoding one photo; one that takes longer is skipped
    ratio: int = 100  # of unpacked to packed size, in members beyond RATIO_FREE_BYTES
    min_images: int = 10
    min_category_images: int = 2  # a category with fewer is dropped
    min_side: int = 16  # pixels; a photo whose shorter side has fewer is skipped

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")


class _GuardedFile:
    """A seekable file for `ZipFile` that refuses a directory of too many members.

    `ZipFile` reads the whole directory at once and creates an object for each entry, so the check
    has to come first. Forged offsets raise `BadZipFile`.
    """

    def __init__(self, file: IO[bytes], limits: ArchiveLimits) -> None:
        self.file = file
        self.members = limits.members
        self.read_bytes = max(limits.member_bytes, limits.members * DIRECTORY_ENTRY_BYTES)

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size) if size <= self.read_bytes else b""
        if size > self.read_bytes or data.count(DIRECTORY_ENTRY_MAGIC) > self.members:
            raise DatasetError("too_many_members", f"Upload at most {self.members:,} files a zip.")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and not 0 <= offset < 2**62:
            raise zipfile.BadZipFile
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True


def open_archive(source: IO[bytes], limits: ArchiveLimits) -> zipfile.ZipFile:
    """Open a zip and check its directory; closing the result leaves `source` open.

    Raises:
        DatasetError: not a zip, or one that we do not unpack.
    """
    try:
        archive = zipfile.ZipFile(_GuardedFile(source, limits))
    # ValueError: names that are not UTF-8; the others: truncated and forged directories.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError("not_a_zip", "Upload a complete zip file; this is none.") from error
    infos = archive.infolist()
    _check_limits(infos, limits)
    _check_overlaps(infos, archive.start_dir)
    for info in infos:
        _check_member(info, limits)
    return archive


def read_member(archive: zipfile.ZipFile, info: ZipInfo) -> bytes:
    """The member's bytes, at most as many as the directory declared.

    Raises:
        MemberError: they are damaged.
        DatasetError: they are an archive.
    """
    try:
        with archive.open(info) as file:
            data = file.read(info.file_size)
    # The last three: a local header that contradicts the directory.
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError),
        *(struct.error, NotImplementedError, UnicodeDecodeError),
    ) as error:
        raise MemberError from error
    if data.startswith(ARCHIVE_MAGIC):
        raise nested_archive()
    return data


def printable(text: str) -> str:
    """`text` with control, bidirectional and other invisible characters replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def nested_archive() -> DatasetError:
    """The error for an archive inside the archive."""
    return DatasetError("nested_archive", "Unpack the archives inside the zip, then zip it again.")


def _check_limits(infos: Sequence[ZipInfo], limits: ArchiveLimits) -> None:
    if not infos:
        raise DatasetError("empty_archive", "The zip is empty: add one folder per category.")
    total_bytes = sum(info.file_size for info in infos)
    if total_bytes > limits.total_bytes:
        raise DatasetError(
            "too_large", f"Upload at most {limits.total_bytes:,} bytes; this holds {total_bytes:,}."
        )


def _check_overlaps(infos: Sequence[ZipInfo], directory_start: int) -> None:
    """Members that share bytes make a small zip bomb, so each must end before the next begins."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in ordered[1:]), directory_start]
    for info, end in zip(ordered, ends, strict=True):
        # The name has at least as many bytes as characters, so a valid zip is never refused.
        header_bytes = LOCAL_HEADER_BYTES + len(info.filename)
        if info.header_offset < 0 or info.header_offset + header_bytes + info.compress_size > end:
            raise DatasetError("suspicious_archive", "Zip the folder anew: its members overlap.")


def _check_member(info: ZipInfo, limits: ArchiveLimits) -> None:
    name, shown = info.orig_filename, printable(info.orig_filename)[:200]
    kind = stat.S_IFMT(info.external_attr >> 16)
    unsafe = name.startswith("/") or "\\" in name or "\0" in name or DRIVE_LETTER.match(name)
    if unsafe or ".." in name.split("/"):
        raise DatasetError("unsafe_path", f"Zip plain relative paths only, not {shown!r}.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError("unsafe_path", f"Zip plain files only; {shown!r} is a link or device.")
    if info.flag_bits & FLAG_ENCRYPTED:
        raise DatasetError("encrypted_archive", "Zip the folder without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DatasetError(
            "unsupported_compression", "Zip the folder with Deflate or no compression."
        )
    if info.file_size > max(RATIO_FREE_BYTES, limits.ratio * info.compress_size):
        raise DatasetError(
            "suspicious_archive", f"{shown!r} unpacks to over {limits.ratio} times its size."
        )
