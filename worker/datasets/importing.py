"""Process pool that decodes uploads: image decoders run in child processes that may crash safely.

Decoders are native code that parses untrusted input. Their processes have memory and time limits
and a low priority, and get no credentials or connections, only the files of the upload.
"""

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.data.archive import ArchiveLimits, DatasetError, open_archive
from models.data.given_attributes import GivenAttributes
from models.data.layout import arrange, list_members
from models.data.photos import ImageError, ImageErrorKind
from models.data.report import DatasetReport
from models.data.upload_import import Imported
from worker.datasets.import_process import COUNT_BYTES, EXHAUSTED, FULL, REFUSED, Files, Task
from worker.datasets.import_slot import (
    ASK_EVERY_S,
    Abandoned,
    Bounds,
    ImportSlot,
    TooManyImports,
    raise_if,
    wanted,
)
from worker.storage import StorageFull, is_full

logger = logging.getLogger(__name__)

WAITING = 8  # uploads that may wait for a free process; each holds a thread and its file
MAX_ANSWER_BYTES = 32 * 2**20
MAX_PREVIEW_BYTES = 64 * 2**20
# Zip directories of up to this many members are checked without a child process.
DIRECTORY_CHECK_MEMBERS = 1000
DIED = (
    "The photos could not be decoded within this service's bounds on memory and time. Leave out"
    " unusual files, or upload fewer photos."
)

UNDECODED: dict[int | None, ImageErrorKind] = {None: "too_slow", EXHAUSTED: "too_large"}

RunTask = Callable[[Files, Task], int | None]  # see `ImportSlot.run`
ShowProgress = Callable[[float], None]


def unseen(_share: float) -> None:
    """For imports whose progress nobody watches."""


class Importer:
    """Imports uploads in child processes, `bounds.at_once` at a time; a few more may wait."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._admitted = threading.BoundedSemaphore(bounds.at_once + WAITING)
        self._free_slots: SimpleQueue[ImportSlot] = SimpleQueue()
        # To the kernel, a child's parent is the thread that started it. This thread stays alive.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starts imports")
        self._all = [ImportSlot(bounds, self._starter) for _ in range(bounds.at_once)]
        for slot in self._all:
            self._free_slots.put(slot)

    def run(
        self,
        source: BinaryIO,
        target: BinaryIO,
        limits: ArchiveLimits,
        abandoned: Abandoned = wanted,
        progress: ShowProgress = unseen,
    ) -> Imported:
        """As `models.data.upload_import.import_photos`; both files need a file descriptor.

        `abandoned` is asked several times a second; once it is true, decoding ends. As often,
        `progress` gets the share of the upload that was read; decoding ends if it raises.

        Raises:
            ImportAbandoned: nobody waits for the import any more.
            DatasetError: the upload is invalid; the message says how to fix it.
            StorageFull: there is no space for temporary files.
            TooManyImports: too many uploads are waiting.
        """
        check_directory(source, limits)
        with tempfile.TemporaryFile() as counter:

            def watched() -> bool:
                progress(_share_read(counter, source))
                return abandoned()

            with self._slot(watched) as run_task:
                return _import(run_task, source, target, counter, limits)

    def decode(
        self, source: BinaryIO, max_side: int, abandoned: Abandoned = wanted
    ) -> NDArray[np.uint8]:
        """Pixels (H, W, C) of a single photo, upright, sRGB or grey, shrunk to `max_side`.

        Raises:
            ImportAbandoned: nobody waits for it any more.
            ImageError: it is not a usable photo.
            StorageFull: there is no space for temporary files.
            TooManyImports: too many uploads are waiting.
        """
        with self._slot(abandoned) as run_task:
            return _decode(run_task, source, max_side)

    @contextmanager
    def _slot(self, abandoned: Abandoned) -> Iterator[RunTask]:
        """Wait for a slot, which is freed after the block."""
        if not self._admitted.acquire(blocking=False):
            raise TooManyImports("many uploads are being decoded; try again later")
        try:
            slot = self._free_slot(abandoned)
            try:
                yield partial(slot.run, abandoned=abandoned)
            finally:
                self._free_slots.put(slot)
        except OSError as error:
            if is_full(error):
                raise StorageFull("there is no room for temporary files") from error
            raise
        finally:
            self._admitted.release()

    def _free_slot(self, abandoned: Abandoned) -> ImportSlot:
        while True:
            with suppress(Empty):
                return self._free_slots.get(timeout=ASK_EVERY_S)
            raise_if(abandoned)

    def close(self) -> None:
        """Kill all child processes; uploads that are still being imported are refused."""
        for slot in self._all:
            slot.close()
        self._starter.shutdown()


def check_directory(source: BinaryIO, limits: ArchiveLimits) -> None:
    """Refuse an upload by its zip directory alone, if that is short; nothing is unpacked.

    Raises:
        DatasetError: the upload is invalid; the message says how to fix it.
    """
    # The limit on members bounds how much of the directory is read.
    glanced = replace(limits, members=min(DIRECTORY_CHECK_MEMBERS, limits.members), member_bytes=1)
    try:
        with open_archive(source, glanced) as archive:
            arrange(list_members(archive), glanced)
    except DatasetError as error:
        if error.code != "too_many_members" or glanced.members == limits.members:
            raise


def _import(
    run: RunTask,
    source: BinaryIO,
    target: BinaryIO,
    counter: IO[bytes],
    limits: ArchiveLimits,
) -> Imported:
    with tempfile.TemporaryFile() as preview, tempfile.TemporaryFile() as answer:
        descriptor = source.fileno()  # moves a small upload from memory into a file
        source.flush()
        others = (target, preview, answer, counter)
        files = Files(descriptor, *(file.fileno() for file in others))
        status = run(files, Task(limits=limits))
        target.seek(0)
        return _read_answer(status, _start_of(answer, MAX_ANSWER_BYTES), preview)


def _read_answer(status: int | None, answer: bytes, preview: IO[bytes]) -> Imported:
    if status == FULL:
        raise StorageFull("there is no room for temporary files")
    try:
        if status not in (0, REFUSED):
            raise ValueError(f"status {status}")
        answered = json.loads(answer)
        if status == REFUSED:
            raise DatasetError(answered["code"], answered["message"])
        report = DatasetReport.from_json(answered["report"])
        given = GivenAttributes.from_json(answered["given"])
    except DatasetError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        logger.warning("the process that decoded an upload failed: %s", error)
        raise DatasetError("invalid_dataset", DIED) from error
    return Imported(report=report, preview_png=_start_of(preview, MAX_PREVIEW_BYTES), given=given)


def _decode(run: RunTask, source: BinaryIO, max_side: int) -> NDArray[np.uint8]:
    with tempfile.TemporaryFile() as target, tempfile.TemporaryFile() as answer:
        descriptor = source.fileno()  # moves a small upload from memory into a file
        source.flush()
        others = (target, target, answer, answer)
        files = Files(descriptor, *(file.fileno() for file in others))
        status = run(files, Task(max_side=max_side))
        if status == FULL:
            raise StorageFull("there is no room for temporary files")
        try:
            if status not in (0, REFUSED):
                raise ValueError(f"status {status}")
            answered = json.loads(_start_of(answer, MAX_ANSWER_BYTES))
            if status == REFUSED:
                raise ImageError(answered["kind"])
            pixels = np.frombuffer(_start_of(target, 3 * max_side**2), dtype=np.uint8)
            return pixels.reshape(answered["shape"])
        except ImageError:
            raise
        except (ValueError, TypeError, LookupError) as error:
            logger.warning("the process that decoded a photo failed: %s", error)
            raise ImageError(UNDECODED.get(status, "corrupt")) from error


def _share_read(counter: IO[bytes], source: BinaryIO) -> float:
    """The share of the upload that its import has read."""
    count = int.from_bytes(os.pread(counter.fileno(), COUNT_BYTES, 0))
    return min(count / os.fstat(source.fileno()).st_size, 1.0) if count else 0.0


def _start_of(file: IO[bytes], size: int) -> bytes:
    file.seek(0)
    return file.read(size)
