"""Embedded mode: the lock of the data folder, and a worker that is restarted when it dies."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from worker.processes import end, take_lock

logger = logging.getLogger(__name__)

STOP_S = 20.0
HEALTHY_S = 60.0  # a worker that ran for longer restarts with the shortest pause again
PAUSE_S = (1.0, 30.0)  # first and longest pause before a dead worker is restarted


class DataFolderBusy(RuntimeError):
    """Another instance uses the data folder; the message has its process id."""


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
