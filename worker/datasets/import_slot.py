"""A slot of the import pool: a child process that decodes one upload at a time."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from worker.datasets.import_process import BEGUN, Files, Task

PROGRAM = "worker.datasets.import_process"
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# One thread decodes a photo; more threads of the numeric libraries would only reserve memory.
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
START_S = 60.0  # limit of a child's start, which takes 0.3 s on an idle machine
ASK_EVERY_S = 0.25  # whether an import is abandoned

Abandoned = Callable[[], bool]  # whether nobody waits for an import any more


class TooManyImports(RuntimeError):
    """Too many uploads wait to be decoded, or the service is shutting down."""


class ImportAbandoned(RuntimeError):
    """Nobody waits for the import any more: its client has gone."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits: memory and time of one import, and the number of concurrent imports."""

    memory_bytes: int = 2 * 2**30  # address space of a child process
    timeout_s: float = 3600.0
    at_once: int = 2


def wanted() -> bool:
    """For imports that are never abandoned."""
    return False


def raise_if(abandoned: Abandoned) -> None:
    """Raise ImportAbandoned if the import is abandoned."""
    if abandoned():
        raise ImportAbandoned("the client has closed the connection")


class ImportSlot:
    """A slot of the pool: a fork server that imports one upload at a time, started on demand."""

    def __init__(self, bounds: Bounds, starter: ThreadPoolExecutor) -> None:
        self.bounds = bounds
        self._starter = starter
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._closed = False
        self._changing = threading.Lock()

    def run(self, files: Files, task: Task, abandoned: Abandoned) -> int | None:
        """The exit status of the import, negative for a signal; None if the time limit was hit.

        Raises:
            ImportAbandoned: nobody waits for the import any more; its process is killed.
            TooManyImports: the service is shutting down.
        """
        begun = self._begin(files, task) or self._begin(files, task)
        status = b""
        try:
            if begun is not None:
                status = self._status(begun, abandoned)
        finally:
            if not status:
                with self._changing:
                    self._end()
        return int(status) if status else None

    def close(self) -> None:
        """Kill the process and its fork; later imports raise TooManyImports."""
        with self._changing:
            self._closed = True
            self._end()

    def _status(self, begun: socket.socket, abandoned: Abandoned) -> bytes:
        """The status that the process sends; empty if it has ended or takes too long."""
        end = time.monotonic() + self.bounds.timeout_s
        while (left_s := end - time.monotonic()) > 0:
            begun.settimeout(min(ASK_EVERY_S, left_s))
            try:
                return begun.recv(16)
            except TimeoutError:
                raise_if(abandoned)
            except OSError:
                break
        return b""

    def _begin(self, files: Files, task: Task) -> socket.socket | None:
        """Send an import; the socket of its status, or None if the idle process had died."""
        connection = self._connect()
        with suppress(OSError):
            socket.send_fds(connection, [task.to_json()], files)
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
