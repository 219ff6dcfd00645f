"""Worker slots: a supervised worker process for each queue that a machine serves.

A process serves one queue (see `worker.queue.supervisor`). So the queues of one machine do not wait
for each other: images are generated while a training runs.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from worker.processes import end
from worker.schemas.requests import QueueName

logger = logging.getLogger(__name__)

STOP_S = 20.0
HEALTHY_S = 60.0  # a worker that ran for longer restarts with the shortest pause again
PAUSE_S = (1.0, 30.0)  # first and longest pause before a dead worker is restarted
# Of each slot: a training uses every core, and neither images nor requests must wait for it.
NICENESS: dict[QueueName, int] = {"generate": 5, "train": 10}


class WorkerProcess:
    """Supervisor of a child process: restarts it with growing pauses when it dies, until `stop`.

    Create it in the main thread: to the kernel, a child's parent is the thread that started it.
    """

    def __init__(self, environment: Mapping[str, str], command: Sequence[str]) -> None:
        self.environment = {**os.environ, **environment}
        self.command = command
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
        self.begin_stop(timeout_s)
        self.join()

    def begin_stop(self, timeout_s: float = STOP_S) -> None:
        """As `stop`, but does not wait."""
        self._timeout_s = timeout_s
        self._stopping.set()

    def join(self) -> None:
        """Wait until the child has ended after `begin_stop`."""
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


class WorkerSlots:
    """A worker process for each of the queues, until `stop`. Create it in the main thread."""

    def __init__(self, queues: Sequence[QueueName], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "worker", "--parent", str(os.getpid())]
        self.processes = {
            name: WorkerProcess({**environment, "VITRINE_QUEUES": name}, command) for name in queues
        }

    def stop(self) -> None:
        """Stop all processes at once, and wait for them."""
        for process in self.processes.values():
            process.begin_stop()
        for process in self.processes.values():
            process.join()
