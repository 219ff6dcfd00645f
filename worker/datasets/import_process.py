"""python -m worker.datasets.import_process: a fork server that imports each upload in a fork.

Started only by `worker.datasets.importing`. This process preloads the image decoders but never runs
them: its forks do. They start within milliseconds, and one that crashes does not affect the server.
The server imports neither torch nor pydantic and has a single thread, so that forking is safe.
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
from dataclasses import asdict
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image

from models.data.archive import ArchiveLimits, DatasetError
from models.data.upload_import import import_photos
from worker.processes import die_with_parent

# Exit statuses of a fork, besides 0 and death by a signal.
REFUSED = 10  # the upload is invalid; the answer file has the reason
FULL = 11  # the disk is full
EXHAUSTED = 12  # the memory limit is reached
FAILED = 13  # another error; its traceback is in the log
BEGUN = b"+"  # sent once the fork exists, before its status
# The embedded worker's value: below API requests, and equal to a training, which must not starve an
# import for hours.
NICENESS = 10
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
MAX_REQUEST_BYTES = 2**16


class Files(NamedTuple):
    """File descriptors of one import, in the order in which they are sent."""

    source: int
    target: int
    preview: int
    answer: int


def main(connection: socket.socket, parent: int, memory_bytes: int) -> None:
    """Import uploads, one at a time, until the other end of the connection is closed."""
    die_with_parent(signal.SIGKILL, parent)
    confine(memory_bytes)
    warm_up()
    while True:
        limits, descriptors, _, _ = socket.recv_fds(
            connection, MAX_REQUEST_BYTES, len(Files._fields)
        )
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
    """Import one upload and exit by `os._exit`: the interpreter's cleanup could hang in a fork."""
    status = FAILED
    try:
        status = import_upload(files, limits)
    finally:
        if status == FAILED:
            traceback.print_exc()
        os._exit(status)


def warm_up() -> None:
    """Load what is imported lazily now, once, instead of in every fork."""
    Image.init()
    np.median([0, 1])
    b"".decode("cp437")


def confine(memory_bytes: int) -> None:
    """Limit this process's memory, priority and, where the kernel allows it, network access."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    if sys.platform == "linux":
        # A network namespace without interfaces. Most containers forbid it; the process still has
        # no credentials and no connections then.
        ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def import_upload(files: Files, limits: bytes) -> int:
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
        given = asdict(imported.given)
        json.dump({"report": imported.report.to_json(), "given": given}, answer, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        main(orders, int(sys.argv[2]), int(sys.argv[3]))
