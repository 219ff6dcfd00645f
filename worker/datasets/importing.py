"""Process pool that imports uploads: image decoders run in child processes that may crash safely.

Decoders are native code that parses untrusted input. Their processes have memory and time limits
and a low priority, and get no credentials or connections, only the files of the upload.
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

from models.data.archive import ArchiveLimits, DatasetError, open_archive
from models.data.canonical_archive import Imported
from models.data.layout import arrange, list_members
from models.data.report import DatasetReport
from worker.datasets.import_process import (
    BEGUN,
    FULL,
    REFUSED,
    Files,
)
from worker.storage import StorageFull, is_full

logger = logging.getLogger(__name__)

PROGRAM = "worker.datasets.import_process"
WAITING = 8  # uploads that may wait for a free process; each holds a thread and its file
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# One thread decodes a photo; more threads of the numeric libraries would only reserve memory.
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
START_S = 60.0  # limit of a child's start, which takes 0.3 s on an idle machine
MAX_ANSWER_BYTES = 4 * 2**20
MAX_PREVIEW_BYTES = 64 * 2**20
# Zip directories of up to this many members are checked without a child process.
DIRECTORY_CHECK_MEMBERS = 1000
DIED = (
    "The photos could not be decoded within this service's bounds on memory and time. Leave out"
    " unusual files, or upload fewer photos."
)


class TooManyImports(RuntimeError):
    """Too many uploads wait to be decoded, or the service is shutting down."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits: memory and time of one import, and the number of concurrent imports."""

    memory_bytes: int = 2 * 2**30  # address space of a child process
    timeout_s: float = 3600.0
    at_once: int = 2


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

    def run(self, source: BinaryIO, target: BinaryIO, limits: ArchiveLimits) -> Imported:
        """As `models.data.canonical_archive.import_photos`; both files need a file descriptor.

        Raises:
            DatasetError: the upload is invalid; the message says how to fix it.
            StorageFull: there is no space for temporary files.
            TooManyImports: too many uploads are waiting.
        """
        check_directory(source, limits)
        if not self._admitted.acquire(blocking=False):
            raise TooManyImports("many uploads are being decoded; try again later")
        try:
            slot = self._free_slots.get()
            try:
                return _import(slot, source, target, limits)
            finally:
                self._free_slots.put(slot)
        except OSError as error:
            if is_full(error):
                raise StorageFull("there is no room for temporary files") from error
            raise
        finally:
            self._admitted.release()

    def close(self) -> None:
        """Kill all child processes; uploads that are still being imported are refused."""
        for slot in self._all:
            slot.close()
        self._starter.shutdown()


class ImportSlot:
    """A slot of the pool: a fork server that imports one upload at a time, started on demand."""

    def __init__(self, bounds: Bounds, starter: ThreadPoolExecutor) -> None:
        self.bounds = bounds
        self._starter = starter
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._closed = False
        self._changing = threading.Lock()

    def run(self, files: Files, limits: ArchiveLimits) -> int | None:
        """The exit status of the import, negative for a signal; None if the time limit was hit.

        Raises:
            TooManyImports: the service is shutting down.
        """
        begun = self._begin(files, limits) or self._begin(files, limits)
        status = _receive(begun, 16, self.bounds.timeout_s) if begun else b""
        if not status:
            with self._changing:
                self._end()
            return None
        return int(status)

    def close(self) -> None:
        """Kill the process and its fork; later imports raise TooManyImports."""
        with self._changing:
            self._closed = True
            self._end()

    def _begin(self, files: Files, limits: ArchiveLimits) -> socket.socket | None:
        """Send an import; the socket of its status, or None if the idle process had died."""
        connection = self._connect()
        with suppress(OSError):
            socket.send_fds(connection, [json.dumps(asdict(limits)).encode()], files)
        if _receive(connection, len(BEGUN), START_S):
            return connection
        with self._changing:
            self._end()
        return None

    def _connect(self) -> socket.socket:
        """The socket that imports are sent to; starts the process if there is none."""
        with self._changing:
            if self._closed:
                raise TooManyImports("the service is about to end; try again later")
            if self._process is not None and self._process.poll() is not None:
                self._end()  # it died while it was idle
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
            start_new_session=True,  # Ctrl-C does not reach it, and killpg also ends its fork
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
    """The data received; empty after `within_s`, or when the process has ended."""
    with suppress(OSError):
        connection.settimeout(within_s)
        return connection.recv(size)
    return b""


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
    slot: ImportSlot, source: BinaryIO, target: BinaryIO, limits: ArchiveLimits
) -> Imported:
    with tempfile.TemporaryFile() as preview, tempfile.TemporaryFile() as answer:
        descriptor = source.fileno()  # moves a small upload from memory into a file
        source.flush()
        files = Files(descriptor, target.fileno(), preview.fileno(), answer.fileno())
        status = slot.run(files, limits)
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
