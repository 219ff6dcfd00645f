"""GPU lock: a file lock that lets one process of this machine run a queue's job on the GPU.

Without it, a work-horse that outlives its worker for a moment would share GPU memory with the next
one. Jobs of different queues do run side by side.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from worker.processes import take_lock

WAIT_S = 10.0  # less than the 120 s after which the supervisor kills a silent work-horse


@contextmanager
def device_lock(queue: str) -> Iterator[None]:
    """Hold the queue's lock of the current GPU; does nothing on a machine without one.

    Raises:
        RuntimeError: another process holds it for longer than `WAIT_S`.
    """
    if not torch.cuda.is_available():
        yield
        return
    name = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    with exclusively(f"{queue}-gpu-{name}"):
        yield


@contextmanager
def exclusively(name: str, within_s: float = WAIT_S) -> Iterator[None]:
    """Hold this machine's lock `name` until the block ends or this process dies.

    Raises:
        RuntimeError: another process holds it for longer than `within_s`.
    """
    path = Path(tempfile.gettempdir()) / f"{name}.lock"
    with path.open("a+") as lock:
        if not take_lock(lock, within_s=within_s):
            raise RuntimeError(f"{name} is held by another process")
        yield
