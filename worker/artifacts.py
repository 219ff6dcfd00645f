"""The files of jobs in storage: what they show and keep, and what they need until they end.

Each attempt writes into a folder of its own, so that one that was taken for dead, and writes on,
does not touch what a later one has made.
"""

from collections.abc import Iterable
from typing import BinaryIO

from worker.storage import ObjectNotFound, Storage


class JobFiles:
    """What one job shows while it runs and keeps when it ends: sample sheets, metrics."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self.storage = storage
        self.folder = f"jobs/artifacts/{job_id}"

    def put(self, attempt: int, name: str, data: bytes | BinaryIO) -> None:
        """Store a file on behalf of an attempt."""
        self.storage.put(f"{self.folder}/{attempt:06d}/{name}", data)

    def keys(self) -> dict[str, str]:
        """Where each file lies, as the latest attempt that has one has left it; by name, sorted."""
        return self._latest(self.storage.keys(self.folder))

    def sizes(self) -> dict[str, int]:
        """How many bytes each file has; by name, sorted."""
        sizes = self.storage.sizes(self.folder)
        return {name: sizes[key] for name, key in self._latest(sizes).items()}

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            ObjectNotFound: no attempt has made it.
        """
        return self.storage.read(self.key(name))

    def key(self, name: str) -> str:
        """Where one file lies.

        Raises:
            ObjectNotFound: no attempt has made it.
        """
        # Attempts are few, files may be many.
        for attempt in reversed(self.storage.folders(self.folder)):
            key = f"{self.folder}/{attempt}/{name}"
            if self.storage.exists(key):
                return key
        raise ObjectNotFound("no such object")

    @staticmethod
    def _latest(keys: Iterable[str]) -> dict[str, str]:
        latest = {key.rsplit("/", 1)[-1]: key for key in keys}
        return dict(sorted(latest.items()))


SCRATCH = "jobs/scratch"


def scratch_folder(job_id: str) -> str:
    """What a job needs until it ends, and nobody afterwards."""
    return f"{SCRATCH}/{job_id}"


def checkpoint_folder(job_id: str) -> str:
    """The training states that another attempt may go on from."""
    return f"{scratch_folder(job_id)}/checkpoints"


def search_folder(job_id: str) -> str:
    """What the processes of a search share."""
    return f"{scratch_folder(job_id)}/search"


# By suffix, of the files of jobs and model versions. TensorBoard's have none that is a type.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "zip": "application/zip",
    "vitrine": "application/octet-stream",
}
FILE_NAME = r"^[a-z0-9][a-z0-9.-]{0,80}\.(png|jpeg|webp|avif|json|jsonl|zip|vitrine)$"


def media_type(name: str) -> str:
    """Of a file called `name`, which matches FILE_NAME."""
    return MEDIA_TYPES[name.rsplit(".", 1)[-1]]
