"""python -m worker.datasets.import_process: a fork server that decodes each upload in a fork.

Started only by `worker.datasets.importing`. This process preloads the image decoders but never runs
them: its forks do. They start within milliseconds, and one that crashes does not affect the server.
The server imports neither torch nor pydantic and has a single thread, so that forking is safe.
"""

import ctypes
import errno
import io
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
from models.data.photos import ImageError, decode
from models.data.upload_import import import_photos
from worker.processes import die_with_parent

# Exit statuses of a fork, besides 0 and death by a signal.
REFUSED = 10  # the upload is invalid; the answer file has the reason
FULL = 11  # the disk is full
EXHAUSTED = 12  # the memory limit is reached
FAILED = 13  # another error; its traceback is in the log
BEGUN = b"+"  # sent once the fork exists, before its status
# At least. The embedded worker's value: below API requests, and equal to a training, which must not
# starve an import for hours.
NICENESS = 10
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
MAX_REQUEST_BYTES = 2**16
COUNT_BYTES = 8  # of the number in the file `progress`


class Files(NamedTuple):
    """File descriptors of one import, in the order in which they are sent."""

    source: int
    target: int
    preview: int  # of a zip; like `progress`, not used for a single photo
    answer: int
    progress: int  # see `CountedFile`


class CountedFile(io.BufferedReader):
    """A file that keeps the number of bytes read from it in another file.

    An import reads each byte of a zip about once, so the number tells how far it is.
    """

    def __init__(self, descriptor: int, counter: int) -> None:
        super().__init__(io.FileIO(descriptor))
        self.counter = counter
        self.bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As of every file."""
        data = super().read(size)
        self.bytes_read += len(data)
        os.pwrite(self.counter, self.bytes_read.to_bytes(COUNT_BYTES), 0)
        return data


class Task(NamedTuple):
    """What to do with an upload: import a zip within limits, or decode a single photo."""

    limits: ArchiveLimits | None = None  # of a zip
    max_side: int | None = None  # px, to which a photo is shrunk

    def to_json(self) -> bytes:
        """As it is sent to the process."""
        limits = None if self.limits is None else asdict(self.limits)
        return json.dumps({"limits": limits, "max_side": self.max_side}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Task":
        """The task that was sent."""
        sent = json.loads(data)
        limits = None if sent["limits"] is None else ArchiveLimits(**sent["limits"])
        return cls(limits, sent["max_side"])


def main(connection: socket.socket, parent: int, memory_bytes: int) -> None:
    """Import uploads, one at a time, until the other end of the connection is closed."""
    die_with_parent(signal.SIGKILL, parent)
    confine(memory_bytes)
    warm_up()
    while True:
        task, descriptors, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, len(Files._fields))
        if not task:
            return
        own = os.getpid()
        child = os.fork()
        if child == 0:
            die_with_parent(signal.SIGKILL, own)
            run_fork(Files(*descriptors), task)
        connection.send(BEGUN)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def run_fork(files: Files, task: bytes) -> NoReturn:
    """Import one upload and exit by `os._exit`: the interpreter's cleanup could hang in a fork."""
    status = FAILED
    try:
        status = import_upload(files, task)
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
    os.nice(max(0, NICENESS - os.nice(0)))
    if sys.platform == "linux":
        # A network namespace without interfaces. Most containers forbid it; the process still has
        # no credentials and no connections then.
        ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET)


def import_upload(files: Files, task: bytes) -> int:
    """Import one upload; returns the exit status."""
    limits, max_side = Task.from_json(task)
    try:
        return _decode(files, max_side) if limits is None else _import(files, limits)
    except MemoryError:
        return EXHAUSTED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return FULL
        raise


def _import(files: Files, limits: ArchiveLimits) -> int:
    with (
        CountedFile(files.source, files.progress) as source,
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


def _decode(files: Files, max_side: int | None) -> int:
    """Write a photo's pixels, and answer their shape (H, W, C)."""
    with (
        open(files.source, "rb") as source,
        open(files.target, "wb") as target,
        open(files.answer, "w", encoding="utf-8") as answer,
    ):
        try:
            image = decode(source, max_side=max_side)
        except ImageError as error:
            json.dump({"kind": error.kind}, answer)
            return REFUSED
        target.write(image.tobytes())
        json.dump({"shape": [image.height, image.width, len(image.getbands())]}, answer)
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        main(orders, int(sys.argv[2]), int(sys.argv[3]))
