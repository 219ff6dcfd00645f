"""python -m worker.import_process: import one upload. Started by `worker.importing` alone.

It imports neither torch nor pydantic, so that it starts fast and has little to go wrong.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass

from models.archive import ArchiveLimits, DatasetError
from models.canonical import import_photos
from worker.processes import die_with_parent

# Exit statuses, beside 0 and whatever else befalls a process.
REFUSED = 10  # the answer says why
FULL = 11  # the disk is
EXHAUSTED = 12  # the memory is
NICENESS = 19
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


@dataclass(frozen=True, kw_only=True)
class Order:
    """One import: descriptors of open files, and the bounds."""

    source: int
    target: int
    preview: int
    answer: int
    parent: int  # process
    memory_bytes: int
    limits: dict[str, int]


def main(order: Order) -> int:
    """Import; returns the exit status."""
    die_with_parent(signal.SIGKILL, order.parent)
    confine(order.memory_bytes)
    try:
        return _import(order)
    except MemoryError:
        return EXHAUSTED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return FULL
        raise


def confine(memory_bytes: int) -> None:
    """Bound this process: its memory, its priority, and, where the kernel lets us, its network."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    if sys.platform == "linux":
        # A network of its own, which leads nowhere. Containers mostly forbid it, and then there is
        # still nothing here that knows an address or a credential.
        ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _import(order: Order) -> int:
    with (
        open(order.source, "rb") as source,
        open(order.target, "r+b") as target,
        open(order.preview, "wb") as preview,
        open(order.answer, "w", encoding="utf-8") as answer,
    ):
        try:
            imported = import_photos(source, target, ArchiveLimits(**order.limits))
        except DatasetError as error:
            json.dump({"code": error.code, "message": str(error)}, answer)
            return REFUSED
        preview.write(imported.preview_png)
        json.dump(imported.report.to_json(), answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(Order(**json.loads(sys.argv[1]))))
