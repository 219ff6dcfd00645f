"""Several API processes on one listening socket, under uvicorn's own supervisor.

uvicorn starts each in a clean process, which gets the socket handed over and everything else from
its environment. The supervisor serves nothing; it starts again what dies.
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
PATIENCE_S = 60  # with a process that SIGHUP has started: it loads torch before it answers
STOP_S = 15.0  # more than an API process gives the requests that it still answers


class ApiProcesses(Multiprocess):
    """The API processes, from their start to their end."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, say_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, [listener])
        self.say_ready = say_ready
        self.ready = False
        self.failed = False

    def keep_subprocess_alive(self) -> None:
        """Called twice a second: start again what has died, or give up where nothing ever ran.

        Unlike uvicorn's own, it waits for no answer of a process: one that dies as it starts would
        keep the others, and Ctrl-C, waiting.
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
            # It waits for nothing any more; what it has counted still counts.
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call] # it has no annotation
            logger.warning("API process %s has ended; starting another one", process.pid)
        if not self.ready and all(map(_serves, self.processes)):
            self.ready = True
            self.say_ready()

    def join_all(self) -> None:
        """Wait for their end, which no request and no frozen process may put off for long."""
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
    """Serve until a signal; whether the processes could be started at all."""
    with tempfile.TemporaryDirectory(prefix="vitrine-metrics-") as folder:
        os.environ[FOLDER] = folder
        _hand_down(settings)
        processes = ApiProcesses(config, listener, say_ready)
        processes.run()
        return not processes.failed


def app_of_one_process() -> FastAPI:
    """What uvicorn calls in each of the processes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    # A process that outlived its supervisor would keep the port, and nobody would end it.
    die_with_parent(signal.SIGTERM, parent.pid)
    settings = Settings()
    logs.configure(settings)
    return create_app(settings)


def _serves(process: Process) -> bool:
    """Whether it says so within a second."""
    while process.parent_conn.poll():  # answers to earlier questions
        process.parent_conn.recv()
    return process.is_ready(timeout=1)


def _hand_down(settings: Settings) -> None:
    """Put into the environment what the processes are to find there."""
    assert settings.redis_url is not None
    assert settings.storage_url is not None
    # In embedded mode these are known only now.
    os.environ["VITRINE_REDIS_URL"] = settings.redis_url
    os.environ["VITRINE_STORAGE_URL"] = settings.storage_url
    # Each computes on its share of the cores, unless the operator has said otherwise.
    share = max(1, torch.get_num_threads() // settings.api_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
