"""Job artifacts and scratch files in object storage, and the storage keys of both.

Each attempt writes to a folder of its own, so that an attempt that was presumed dead and still
writes cannot overwrite the files of a later one.
"""

import re
from collections.abc import Iterable
from typing import BinaryIO

from worker.storage import ObjectNotFound, Storage

ATTEMPT = "[0-9]{6}"  # name of the folder of an attempt


class JobFiles:
    """Artifacts of one job, such as sample sheets: readable while it runs, kept when it ends."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self.storage = storage
        self.folder = f"jobs/artifacts/{job_id}"

    def put(self, attempt: int, name: str, data: bytes | BinaryIO) -> None:
        """Store a file on behalf of an attempt."""
        self.storage.put(f"{self.folder}/{attempt:06d}/{name}", data)

    def keys(self) -> dict[str, str]:
        """Storage key of each file by name, sorted; of several attempts, the latest one's."""
        return self._latest(self.storage.keys(self.folder))

    def sizes(self) -> dict[str, int]:
        """Size of each file in bytes by name, sorted."""
        sizes = self.storage.sizes(self.folder)
        return {name: sizes[key] for name, key in self._latest(sizes).items()}

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ObjectNotFound: no attempt has stored it.
        """
        return self.storage.read(self.key(name))

    def key(self, name: str) -> str:
        """The storage key of a file, of the latest attempt that has stored it.

        Raises:
            ObjectNotFound: no attempt has stored it.
        """
        # Not by `keys`: a job has few attempts, but may have many files.
        attempts = (name for name in self.storage.folders(self.folder) if re.match(ATTEMPT, name))
        for attempt in sorted(attempts, reverse=True):
            key = f"{self.folder}/{attempt}/{name}"
            if self.storage.exists(key):
                return key
        raise ObjectNotFound("no such object")

    def delete(self) -> None:
        """Remove all files of all attempts."""
        self.storage.clear(self.folder)

    def _latest(self, keys: Iterable[str]) -> dict[str, str]:
        name = re.compile(rf"{self.folder}/{ATTEMPT}/([^/]+)")
        found = {match[1]: key for key in keys if (match := name.fullmatch(key))}
        return {name: found[name] for name in sorted(found) if re.fullmatch(FILE_NAME, name)}


SCRATCH = "jobs/scratch"


def scratch_folder(job_id: str) -> str:
    """Folder of files that a job needs only until it ends; deleted then."""
    return f"{SCRATCH}/{job_id}"


def checkpoint_folder(job_id: str) -> str:
    """Folder of the training states that a later attempt resumes from."""
    return f"{scratch_folder(job_id)}/checkpoints"


def search_folder(job_id: str) -> str:
    """Folder of what the processes of a search share."""
    return f"{scratch_folder(job_id)}/search"


# Media types by suffix, of the files of jobs and model versions. `vitrine` is the suffix of
# TensorBoard event files.
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "zip": "application/zip",
    "vitrine": "application/octet-stream",
    "safetensors": "application/octet-stream",
}
FILE_NAME = rf"^[a-z0-9][a-z0-9.-]{{0,80}}\.({'|'.join(MEDIA_TYPES)})$"


def media_type(name: str) -> str:
    """The media type of a file whose name matches FILE_NAME."""
    return MEDIA_TYPES[name.rsplit(".", 1)[-1]]
