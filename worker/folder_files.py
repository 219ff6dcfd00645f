"""Files of a folder as objects: atomic writes, deletions and listings.

A write or a deletion survives a power failure once it returns. Only names made of the characters of
a storage key are listed. Whatever else lies in the folder, such as a file manager's own files or an
unfinished write, is not an object.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

NAME = re.compile(r"[A-Za-z0-9._@-]+")
UNFINISHED = re.compile(r"[A-Za-z0-9._@-]+#[0-9a-f]{16}")
COPY_BYTES = 2**20
REMEMBERED = 10_000  # folders

_on_disk: set[Path] = set()  # folders whose own names this process has synced


def write(target: Path, data: bytes | Path | BinaryIO, *, create: bool) -> None:
    """Write a file; its content and its name survive a power failure once this returns.

    Raises:
        FileExistsError: `create` is set and there is a file already.
        OSError: the file was not written; an earlier one is as it was.
    """
    make_folder(target.parent)
    # `#` is in no object's name.
    unfinished = target.with_name(f"{target.name}#{secrets.token_hex(8)}")
    try:
        _write_synced(unfinished, data)
        if create:
            os.link(unfinished, target)
        else:
            unfinished.replace(target)
    except FileExistsError:
        _sync_folder(target.parent)  # the writer of that file may not have done so yet
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(target.parent)


def delete(files: Iterable[Path]) -> None:
    """Delete files; those that exist do not come back after a power failure once this returns."""
    folders = set()
    for file in files:
        with suppress(FileNotFoundError, NotADirectoryError):
            file.unlink()
            folders.add(file.parent)
    for folder in folders:
        _sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Create a folder with its parents; it survives a power failure once this returns.

    One that exists may have been created a moment ago, by a process that has not synced it yet.
    """
    if folder in _on_disk and folder.is_dir():
        return
    if not folder.is_mount():
        make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:  # if it is a file, the write fails
            with suppress(PermissionError):  # a home folder's parent, which may not be read
                _sync_folder(folder.parent)
        else:
            _sync_folder(folder.parent)
    if len(_on_disk) >= REMEMBERED:
        _on_disk.clear()
    _on_disk.add(folder)


def sweep_unfinished(root: Path, age: timedelta) -> int:
    """Remove the files of writes that got nothing for longer than `age`; returns their number."""
    limit, removed = time.time() - age.total_seconds(), 0
    for folder, _, names in os.walk(root):
        for name in filter(UNFINISHED.fullmatch, names):
            path = Path(folder, name)
            with suppress(FileNotFoundError):  # it was finished meanwhile
                if path.stat().st_mtime < limit:
                    path.unlink()
                    removed += 1
    return removed


def sizes(root: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Key and length of every object below the folder `prefix` of `root`, in no order."""
    for name, found in _entries(root / prefix):
        key = f"{prefix}/{name}"
        if stat.S_ISDIR(found.st_mode):
            yield from sizes(root, key)
        elif stat.S_ISREG(found.st_mode):
            yield key, found.st_size


def folders(root: Path, prefix: str) -> Iterator[str]:
    """Names of the folders directly below `prefix` that hold an object, in no order."""
    for name, found in _entries(root / prefix):
        if stat.S_ISDIR(found.st_mode) and any(sizes(root, f"{prefix}/{name}")):
            yield name


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Name and state of what a folder holds; a missing folder holds nothing."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name) and (found := _state(entry)) is not None:
                yield entry.name, found


def _state(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """The state of a file or folder; None where it was deleted meanwhile or links to nothing."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


def _write_synced(path: Path, data: bytes | Path | BinaryIO) -> None:
    with path.open("xb") as file:
        if isinstance(data, bytes):
            file.write(data)
        elif isinstance(data, Path):
            with data.open("rb") as source:
                shutil.copyfileobj(source, file, COPY_BYTES)
        else:
            shutil.copyfileobj(data, file, COPY_BYTES)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
