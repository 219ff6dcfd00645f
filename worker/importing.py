"""Uploads, each decoded in a process of its own that may die of it without harm.

A decoder is what runs over pixels that a stranger chose. Its process has bounds on memory and time
and a low priority, and is handed neither credentials nor connections, only its upload's files.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from queue import SimpleQueue
from typing import IO, BinaryIO

from models.archive import ArchiveLimits, DatasetError, open_archive
from models.canonical import Imported
from models.layout import arrange, list_members
from models.report import DatasetReport
from worker.import_process import BEGUN, FULL, REFUSED, Files
from worker.storage import StorageFull, is_full

logger = logging.getLogger(__name__)

PROGRAM = "worker.import_process"
WAITING = 8  # uploads that may wait for their turn; each holds a thread and its file
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# Threads of the numeric libraries would reserve memory for nothing: a photo is decoded by one.
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
START_S = 60.0  # a third of a second on an idle machine
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
        self._seats: SimpleQueue[Seat] = SimpleQueue()
        # To the kernel, a child's parent is the thread that started it: this one stays.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starts imports")
        self._all = [Seat(bounds, self._starter) for _ in range(bounds.at_once)]
        for seat in self._all:
            self._seats.put(seat)

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
            seat = self._seats.get()
            try:
                return _import(seat, source, target, limits)
            finally:
                self._seats.put(seat)
        except OSError as error:
            if is_full(error):
                raise StorageFull("there is no room for temporary files") from error
            raise
        finally:
            self._admitted.release()

    def close(self) -> None:
        """End what still runs; the uploads it belongs to are refused."""
        for seat in self._all:
            seat.close()
        self._starter.shutdown()


class Seat:
    """A child process that imports one upload at a time; started when it is needed."""

    def __init__(self, bounds: Bounds, starter: ThreadPoolExecutor) -> None:
        self.bounds = bounds
        self._starter = starter
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._closed = False
        self._changing = threading.Lock()

    def run(self, files: Files, limits: ArchiveLimits) -> int | None:
        """The exit status of the import, negative if a signal ended it; None if it overran.

        Raises:
            TooManyImports: the service is about to end.
        """
        begun = self._begin(files, limits) or self._begin(files, limits)
        status = _receive(begun, 16, self.bounds.timeout_s) if begun else b""
        if not status:
            with self._changing:
                self._end()
            return None
        return int(status)

    def close(self) -> None:
        """End the process and what it runs, for good."""
        with self._changing:
            self._closed = True
            self._end()

    def _begin(self, files: Files, limits: ArchiveLimits) -> socket.socket | None:
        """Where the status will come from; None if the process died with nothing to do before."""
        connection = self._connect()
        with suppress(OSError):
            socket.send_fds(connection, [json.dumps(asdict(limits)).encode()], files)
        if _receive(connection, len(BEGUN), START_S):
            return connection
        with self._changing:
            self._end()
        return None

    def _connect(self) -> socket.socket:
        """Where orders go; starts the process if there is none."""
        with self._changing:
            if self._closed:
                raise TooManyImports("the service is about to end; try again later")
            if self._process is not None and self._process.poll() is not None:
                self._end()  # it died with nothing to do
            if self._connection is None:
                self._connection, theirs = socket.socketpair()
                with theirs:
                    self._process = self._starter.submit(self._spawn, theirs).result()
            return self._connection

    def _spawn(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        memory_bytes = str(self.bounds.memory_bytes)
        return subprocess.Popen(
            [
                *(sys.executable, "-m", PROGRAM),
                *(str(theirs.fileno()), str(os.getpid()), memory_bytes),
            ],
            env={name: os.environ[name] for name in INHERITED if name in os.environ} | SINGLE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C ends this process alone; and to be ended with its fork
        )

    def _end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _receive(connection: socket.socket, size: int, within_s: float) -> bytes:
    """What comes; nothing after too long a time, and where the process has ended or is ended."""
    with suppress(OSError):
        connection.settimeout(within_s)
        return connection.recv(size)
    return b""


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


def _import(seat: Seat, source: BinaryIO, target: BinaryIO, limits: ArchiveLimits) -> Imported:
    with tempfile.TemporaryFile() as preview, tempfile.TemporaryFile() as answer:
        descriptor = source.fileno()  # a small upload is in memory until it is asked for this
        source.flush()
        files = Files(descriptor, target.fileno(), preview.fileno(), answer.fileno())
        status = seat.run(files, limits)
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
