"""Supervisor of several API processes that share one listening socket, built on uvicorn's own.

uvicorn spawns each process afresh: it inherits the socket and reads all settings from its
environment. The supervisor serves no requests; it restarts processes that die.
"""

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable

import torch
import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from app.main import create_app
from app.metrics import FOLDER
from worker import logs
from worker.processes import die_with_parent
from worker.settings import Settings

logger = logging.getLogger(__name__)

APP = "app.processes:app_of_one_process"
STARTUP_TIMEOUT_S = 60  # for a process restarted by SIGHUP to answer: it loads torch first
STOP_S = 15.0  # longer than an API process waits for requests in progress


class ApiProcesses(Multiprocess):
    """Starts, restarts and stops the API processes."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, say_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, [listener])
        self.say_ready = say_ready
        self.ready = False
        self.failed = False

    def keep_subprocess_alive(self) -> None:
        """Restart dead processes, or give up if one dies before all serve; called twice a second.

        Unlike uvicorn's own, it does not wait for a process that is starting: one that dies as it
        starts would block the others, and Ctrl-C.
        """
        for index, process in enumerate(self.processes):
            if process.exitcode is None:
                continue
            if not self.ready:
                self.failed = True
                self.should_exit.set()
                return
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()
            # Removes its live gauges; its counters stay in the totals.
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call] # it has no annotation
            logger.warning("API process %s has ended; starting another one", process.pid)
        if not self.ready and all(map(_serves, self.processes)):
            self.ready = True
            self.say_ready()

    def join_all(self) -> None:
        """Wait for the processes to end; kill those that run longer than `STOP_S`."""
        deadline = time.monotonic() + STOP_S
        for process in self.processes:
            process.process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                logger.warning("API process %s does not end; killing it", process.pid)
                process.process.kill()
                process.process.join()


def serve_in_processes(
    settings: Settings,
    config: uvicorn.Config,
    listener: socket.socket,
    say_ready: Callable[[], None],
) -> bool:
    """Serve until a signal; returns whether the processes could be started."""
    with tempfile.TemporaryDirectory(prefix="vitrine-metrics-") as folder:
        os.environ[FOLDER] = folder
        _hand_down(settings)
        processes = ApiProcesses(config, listener, say_ready)
        processes.run()
        return not processes.failed


def app_of_one_process() -> FastAPI:
    """Application factory that uvicorn calls in each process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    # A process that outlived its supervisor would keep the port occupied.
    die_with_parent(signal.SIGTERM, parent.pid)
    settings = Settings()
    logs.configure(settings)
    return create_app(settings)


def _serves(process: Process) -> bool:
    """Whether the process answers a health check within a second."""
    while process.parent_conn.poll():  # answers to earlier health checks
        process.parent_conn.recv()
    return process.is_ready(timeout=1)


def _hand_down(settings: Settings) -> None:
    """Set the environment variables that the processes read."""
    assert settings.redis_url is not None
    assert settings.storage_url is not None
    # In embedded mode these are known only now.
    os.environ["VITRINE_REDIS_URL"] = settings.redis_url
    os.environ["VITRINE_STORAGE_URL"] = settings.storage_url
    # Each process computes on its share of the cores, unless the operator has set the variable.
    share = max(1, torch.get_num_threads() // settings.api_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
