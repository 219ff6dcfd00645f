"""One job at a time on a GPU, whoever started the processes.

A work-horse that outlived its worker for a moment would otherwise share the memory with the next.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from worker.processes import take_lock

WAIT_S = 10.0  # less than a worker waits for a sign of life


@contextmanager
def device_lock() -> Iterator[None]:
    """Hold the GPU that jobs run on; a machine without one has nothing to hold.

    Raises:
        RuntimeError: another process keeps it.
    """
    if not torch.cuda.is_available():
        yield
        return
    name = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    with exclusively(f"vitrine-gpu-{name}"):
        yield


@contextmanager
def exclusively(name: str, within_s: float = WAIT_S) -> Iterator[None]:
    """Hold what is called `name` on this machine, until the end or the death of this process.

    Raises:
        RuntimeError: another process holds it for longer than `within_s`.
    """
    path = Path(tempfile.gettempdir()) / f"{name}.lock"
    with path.open("a+") as lock:
        if not take_lock(lock, within_s=within_s):
            raise RuntimeError(f"{name} is held by another process")
        yield
