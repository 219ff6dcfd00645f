"""Uploads, each decoded in a process of its own that may die of it without harm.

A decoder is what runs over pixels that a stranger chose. Its process has bounds on memory and time,
the lowest priority, neither credentials nor connections, and no file but those it is handed.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import IO, BinaryIO

from models.archive import ArchiveLimits, DatasetError, open_archive
from models.canonical import Imported
from models.layout import arrange, list_members
from models.report import DatasetReport
from worker.import_process import FULL, REFUSED, Order
from worker.storage import StorageFull, is_full

logger = logging.getLogger(__name__)

PROGRAM = "worker.import_process"
WAITING = 8  # uploads that may wait for their turn; each holds a thread and its file
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# Threads of the numeric libraries would reserve memory for nothing: a photo is decoded by one.
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
MAX_ANSWER_BYTES = 4 * 2**20
MAX_PREVIEW_BYTES = 64 * 2**20
# What is read of a directory before a process is started for the rest.
GLANCED_MEMBERS = 1000
DIED = (
    "The photos could not be decoded within this service's bounds on memory and time. Leave out"
    " unusual files, or upload fewer photos."
)


class TooManyImports(RuntimeError):
    """So many uploads wait to be decoded that this one would wait too long."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of all imports, and of one."""

    memory_bytes: int = 2 * 2**30  # of address space
    timeout_s: float = 3600.0
    at_once: int = 2


class Importer:
    """Imports uploads in child processes, a few at once; the others wait their turn."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._admitted = threading.BoundedSemaphore(bounds.at_once + WAITING)
        self._running = threading.BoundedSemaphore(bounds.at_once)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closing = False

    def run(self, source: BinaryIO, target: BinaryIO, limits: ArchiveLimits) -> Imported:
        """As `models.canonical.import_photos`; both files must be real ones.

        Raises:
            DatasetError: what is wrong with the upload, and what to do.
            StorageFull: there is no room for temporary files.
            TooManyImports: try again later.
        """
        refuse_at_a_glance(source, limits)
        if not self._admitted.acquire(blocking=False):
            raise TooManyImports("many uploads are being decoded; try again later")
        try:
            with self._running:
                if self._closing:
                    raise TooManyImports("the service is about to end; try again later")
                return self._import(source, target, limits)
        except OSError as error:
            if is_full(error):
                raise StorageFull("there is no room for temporary files") from error
            raise
        finally:
            self._admitted.release()

    def close(self) -> None:
        """End what still runs; the uploads it belongs to are refused."""
        self._closing = True
        for process in tuple(self._processes):
            process.kill()

    def _import(self, source: BinaryIO, target: BinaryIO, limits: ArchiveLimits) -> Imported:
        with ExitStack() as stack:
            preview = stack.enter_context(tempfile.TemporaryFile())
            answer = stack.enter_context(tempfile.TemporaryFile())
            descriptor = source.fileno()  # a small upload is in memory until it is asked for this
            source.flush()
            order = Order(
                source=descriptor,
                target=target.fileno(),
                preview=preview.fileno(),
                answer=answer.fileno(),
                parent=os.getpid(),
                memory_bytes=self.bounds.memory_bytes,
                limits=asdict(limits),
            )
            status = self._run(order)
            target.seek(0)
            return _read_answer(status, _start_of(answer, MAX_ANSWER_BYTES), preview)

    def _run(self, order: Order) -> int:
        """The exit status of a child that was given an order; negative if a signal ended it."""
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, json.dumps(asdict(order))],
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | SINGLE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(order.source, order.target, order.preview, order.answer),
            start_new_session=True,  # Ctrl-C ends this process, which ends the child
        )
        self._processes.add(process)
        if self._closing:  # `close` may have looked just before
            process.kill()
        try:
            return process.wait(self.bounds.timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            self._processes.discard(process)


def refuse_at_a_glance(source: BinaryIO, limits: ArchiveLimits) -> None:
    """Refuse what the directory alone condemns, where it is short; nothing is unpacked for it.

    Raises:
        DatasetError: what is wrong with the upload, and what to do.
    """
    # A member limit bounds what is read of the directory, if members may not be large either.
    glanced = replace(limits, members=min(GLANCED_MEMBERS, limits.members), member_bytes=1)
    try:
        with open_archive(source, glanced) as archive:
            arrange(list_members(archive), glanced)
    except DatasetError as error:
        if error.code != "too_many_members" or glanced.members == limits.members:
            raise


def _read_answer(status: int, answer: bytes, preview: IO[bytes]) -> Imported:
    if status == FULL:
        raise StorageFull("there is no room for temporary files")
    try:
        if status not in (0, REFUSED):
            raise ValueError(f"status {status}")
        answered = json.loads(answer)
        if status == REFUSED:
            raise DatasetError(answered["code"], answered["message"])
        report = DatasetReport.from_json(answered)
    except DatasetError:
        raise
    except (ValueError, TypeError, LookupError) as error:
        logger.warning("the process that decoded an upload failed: %s", error)
        raise DatasetError("invalid_dataset", DIED) from error
    return Imported(report=report, preview_png=_start_of(preview, MAX_PREVIEW_BYTES))


def _start_of(file: IO[bytes], size: int) -> bytes:
    file.seek(0)
    return file.read(size)
