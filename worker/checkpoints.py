"""The training states of a job, of which the newest whole one is where the next attempt begins.

Each is stored under a name of its own that holds its digest, so that none is ever written over and
one that the store has damaged is known. An attempt that was taken for dead writes under its own
number: what it may still store is valid, and older than what the present attempt has.
"""

import hashlib
import logging

from worker.artifacts import checkpoint_folder
from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

KEPT = 2  # should the newest be damaged


class Checkpoints:
    """Those of one job."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self.storage = storage
        self.folder = checkpoint_folder(job_id)

    def save(self, attempt: int, step: int, data: bytes) -> None:
        """Store one, then delete those that are no longer needed."""
        digest = hashlib.sha256(data).hexdigest()
        self.storage.put(f"{self.folder}/{attempt:06d}-{step:012d}-{digest}", data)
        for key in self._keys()[KEPT:]:
            self.storage.delete(key)

    def newest(self) -> bytes | None:
        """The state of the latest attempt that has stored one, at its last step."""
        for key in self._keys():
            try:
                data = self.storage.read(key)
            except ObjectNotFound:
                continue  # another attempt has stored a newer one at this moment
            if hashlib.sha256(data).hexdigest() == key.rsplit("-", 1)[-1]:
                return data
            logger.warning("a checkpoint is damaged: %s", key)
        return None

    def _keys(self) -> list[str]:
        """Newest first."""
        return sorted(self.storage.keys(self.folder), reverse=True)
