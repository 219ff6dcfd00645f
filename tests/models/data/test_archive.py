"""Zip validation: zips that are refused, each with its code, and how members are read."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.archive import (
    ArchiveLimits,
    DatasetError,
    MemberError,
    open_archive,
    read_member,
)

LIMITS = ArchiveLimits(members=50)


def zipped(members: dict[str, bytes], compression: int = ZIP_DEFLATED) -> bytes:
    """A zip with these files, by name."""
    file = io.BytesIO()
    with ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def named(name: str) -> bytes:
    """A zip with one file whose stored name is exactly this, also where zipfile would clean it."""
    placeholder = "x" * len(name.encode())
    return zipped({placeholder: b"content"}).replace(placeholder.encode(), name.encode())


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Every record of a kind with some bytes overwritten."""
    content, start = bytearray(data), data.find(signature)
    while start >= 0:
        content[start + offset : start + offset + len(value)] = value
        start = data.find(signature, start + 1)
    return bytes(content)


def symlink() -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        info = ZipInfo("dress/1.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def encrypted() -> bytes:
    data = patched(zipped({"a/1.png": b"x"}), b"PK\x01\x02", 8, b"\x01\x00")
    return patched(data, b"PK\x03\x04", 6, b"\x01\x00")


def overlapping() -> bytes:
    """Two directory entries for the same bytes, the basis of quadratic bombs."""
    data = zipped({"a/1.png": b"one", "a/2.png": b"two"}, ZIP_STORED)
    second = data.rfind(b"PK\x01\x02")
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


def huge_directory() -> bytes:
    """A few bytes whose end record promises a directory of 4 GB."""
    return patched(zipped({"a/1.png": b"x"}), b"PK\x05\x06", 12, b"\xfe\xff\xff\xff")


def truncated(keep: float) -> Callable[[], bytes]:
    def build() -> bytes:
        data = zipped({f"a/{n}.png": bytes(range(256)) for n in range(5)}, ZIP_STORED)
        return data[: int(len(data) * keep)]

    return build


REFUSED: list[tuple[str, str, Callable[[], bytes]]] = [
    ("nothing", "not_a_zip", lambda: b""),
    ("text", "not_a_zip", lambda: b"these are no photos"),
    ("rar", "not_a_zip", lambda: b"Rar!\x1a\x07\x01\x00" + b"\0" * 100),
    ("truncated in a member", "not_a_zip", truncated(0.4)),
    ("truncated in the directory", "not_a_zip", truncated(0.95)),
    ("no member", "empty_archive", lambda: zipped({})),
    ("parent folder", "unsafe_path", lambda: named("../evil.png")),
    ("parent folder inside", "unsafe_path", lambda: named("a/../../evil.png")),
    ("absolute", "unsafe_path", lambda: named("/etc/evil.png")),
    ("backslash", "unsafe_path", lambda: named("a\\1.png")),
    ("drive", "unsafe_path", lambda: named("C:/evil.png")),
    ("NUL", "unsafe_path", lambda: named("a/1.png\0.exe")),
    ("symbolic link", "unsafe_path", symlink),
    ("password", "encrypted_archive", encrypted),
    ("bzip2", "unsupported_compression", lambda: zipped({"a/1.png": b"x"}, ZIP_BZIP2)),
    ("bomb", "suspicious_archive", lambda: zipped({"a/1.png": bytes(2**21)})),
    ("overlap", "suspicious_archive", overlapping),
    ("members", "too_many_members", lambda: zipped({f"a/{n}.png": b"" for n in range(51)})),
    ("huge directory", "not_a_zip", huge_directory),
]


@pytest.mark.parametrize(
    ("code", "build"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_bad_zip_is_refused_with_its_code(code: str, build: Callable[[], bytes]) -> None:
    with pytest.raises(DatasetError) as caught:
        open_archive(io.BytesIO(build()), LIMITS)
    assert caught.value.code == code
    assert str(caught.value).isprintable()


def test_the_limits_themselves_are_allowed() -> None:
    data = zipped({f"a/{n}.png": bytes(100) for n in range(50)})
    limits = ArchiveLimits(members=50, total_bytes=5000)
    with open_archive(io.BytesIO(data), limits) as archive:
        assert len(archive.namelist()) == 50


def test_more_bytes_than_allowed_are_refused() -> None:
    with pytest.raises(DatasetError, match="at most 999 bytes; this holds 1,000") as caught:
        open_archive(io.BytesIO(zipped({"a/1": bytes(1000)})), ArchiveLimits(total_bytes=999))
    assert caught.value.code == "too_large"


def test_small_flat_members_may_shrink_a_lot() -> None:
    data = zipped({"a/flat.png": bytes(2**20)})
    with open_archive(io.BytesIO(data), LIMITS) as archive:
        assert read_member(archive, archive.infolist()[0]) == bytes(2**20)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be at least 1; got 0"):
        ArchiveLimits(ratio=0)


def test_a_zip_behind_other_bytes_is_read() -> None:
    data = b"#!/bin/sh self-extracting\n" + zipped({"a/1.png": b"content"})
    with open_archive(io.BytesIO(data), LIMITS) as archive:
        assert read_member(archive, archive.infolist()[0]) == b"content"


def test_a_member_with_a_wrong_checksum_is_damaged() -> None:
    data = zipped({"a/1.png": b"content"}, ZIP_STORED).replace(b"content", b"c0ntent")
    with open_archive(io.BytesIO(data), LIMITS) as archive, pytest.raises(MemberError):
        read_member(archive, archive.infolist()[0])


def test_no_more_is_unpacked_than_the_directory_declares() -> None:
    forged = zipped({"a/1.png": bytes(2**20)})
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        forged = patched(forged, signature, offset, struct.pack("<I", 10))
    with open_archive(io.BytesIO(forged), LIMITS) as archive, pytest.raises(MemberError):
        read_member(archive, archive.infolist()[0])


@pytest.mark.parametrize("content", [zipped({"b/1.png": b"x"}), zipped({}), b"\x1f\x8b\x08\0\0"])
def test_an_archive_in_disguise_is_refused(content: bytes) -> None:
    data = zipped({"a/1.png": content}, ZIP_STORED)
    archive = open_archive(io.BytesIO(data), LIMITS)
    with archive, pytest.raises(DatasetError) as caught:
        read_member(archive, archive.infolist()[0])
    assert caught.value.code == "nested_archive"


def read_everything(data: bytes) -> None:
    """Open, and read all that can be read; errors other than domain errors propagate."""
    try:
        with open_archive(io.BytesIO(data), LIMITS) as archive:
            for info in archive.infolist():
                try:
                    read_member(archive, info)
                except MemberError:
                    continue
    except DatasetError:
        return


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x05\x06", b"PK\x03\x04"]))
def test_random_bytes_are_refused(noise: bytes, signature: bytes) -> None:
    with pytest.raises(DatasetError):
        open_archive(io.BytesIO(noise[:100] + signature + noise[100:]), LIMITS)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_mutated_zips_raise_domain_errors_only(data: st.DataObject) -> None:
    sound = zipped({"a/1.png": b"content" * 9, "b/\u9774.png": b"more"}, zipfile.ZIP_DEFLATED)
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_everything(bytes(content))
