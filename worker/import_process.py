"""python -m worker.import_process: imports uploads, one after the other, each in a fork of itself.

Started by `worker.importing` alone. This process holds the decoders, ready to run, and never runs
them: its forks do, which begin within milliseconds and take nothing with them when they die. It
imports neither torch nor pydantic, and has one thread, so that a fork is sound.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import sys
import traceback
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image

from models.archive import ArchiveLimits, DatasetError
from models.canonical import import_photos
from worker.processes import die_with_parent

# Exit statuses, beside 0 and whatever else befalls a process.
REFUSED = 10  # the answer says why
FULL = 11  # the disk is
EXHAUSTED = 12  # the memory is
FAILED = 13  # for a reason that is in the log
BEGUN = b"+"  # what is sent before the status, once there is a fork
# As the embedded worker's: requests come first, and a training does not starve an upload for hours.
NICENESS = 10
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
MAX_ORDER_BYTES = 2**16


class Files(NamedTuple):
    """Descriptors of the open files of one import, in the order in which they are sent."""

    source: int
    target: int
    preview: int
    answer: int


def main(connection: socket.socket, parent: int, memory_bytes: int) -> None:
    """Carry out orders until nobody can give any more."""
    die_with_parent(signal.SIGKILL, parent)
    confine(memory_bytes)
    warm_up()
    while True:
        limits, descriptors, _, _ = socket.recv_fds(connection, MAX_ORDER_BYTES, len(Files._fields))
        if not limits:
            return
        own = os.getpid()
        child = os.fork()
        if child == 0:
            die_with_parent(signal.SIGKILL, own)
            run_fork(Files(*descriptors), limits)
        connection.send(BEGUN)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def run_fork(files: Files, limits: bytes) -> NoReturn:
    """Carry out an order and end at once: a fork has nothing to tidy up, and could hang over it."""
    status = FAILED
    try:
        status = carry_out(files, limits)
    finally:
        if status == FAILED:
            traceback.print_exc()
        os._exit(status)


def warm_up() -> None:
    """Have what is imported at its first use imported now, once, and not in every fork."""
    Image.init()
    np.median([0, 1])
    b"".decode("cp437")


def confine(memory_bytes: int) -> None:
    """Bound this process: its memory, its priority, and, where the kernel lets us, its network."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    if sys.platform == "linux":
        # A network of its own, which leads nowhere. Containers mostly forbid it, and then there is
        # still nothing here that knows an address or a credential.
        ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def carry_out(files: Files, limits: bytes) -> int:
    """Import one upload; returns the exit status."""
    try:
        return _import(files, ArchiveLimits(**json.loads(limits)))
    except MemoryError:
        return EXHAUSTED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return FULL
        raise


def _import(files: Files, limits: ArchiveLimits) -> int:
    with (
        open(files.source, "rb") as source,
        open(files.target, "r+b") as target,
        open(files.preview, "wb") as preview,
        open(files.answer, "w", encoding="utf-8") as answer,
    ):
        try:
            imported = import_photos(source, target, limits)
        except DatasetError as error:
            json.dump({"code": error.code, "message": str(error)}, answer)
            return REFUSED
        preview.write(imported.preview_png)
        json.dump(imported.report.to_json(), answer)
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        main(orders, int(sys.argv[2]), int(sys.argv[3]))
