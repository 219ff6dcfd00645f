"""Checkpoints of a job's training; the next attempt resumes from the newest undamaged one.

The name of each holds attempt, step and SHA-256, so none is overwritten and damage is detected. An
attempt that was presumed dead and still writes does so under its own, lower number: its checkpoints
sort before those of the current attempt.
"""

import hashlib
import logging
import re

from worker.ledger.artifacts import checkpoint_folder
from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

NAME = re.compile(r"[0-9]{6}-[0-9]{12}-[0-9a-f]{64}")
KEPT = 2  # a second one, in case the newest is damaged


class Checkpoints:
    """The checkpoints of one job."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self.storage = storage
        self.folder = checkpoint_folder(job_id)

    def save(self, attempt: int, step: int, data: bytes) -> None:
        """Store a checkpoint, then delete all but the newest `KEPT`."""
        digest = hashlib.sha256(data).hexdigest()
        self.storage.put(f"{self.folder}/{attempt:06d}-{step:012d}-{digest}", data)
        for key in self._keys()[KEPT:]:
            self.storage.delete(key)

    def newest(self) -> bytes | None:
        """The newest undamaged checkpoint: of the latest attempt, at its last step."""
        for key in self._keys():
            try:
                data = self.storage.read(key)
            except ObjectNotFound:
                continue  # deleted meanwhile by a process that stored a newer one
            if hashlib.sha256(data).hexdigest() == key.rsplit("-", 1)[-1]:
                return data
            logger.warning("a checkpoint is damaged: %s", key)
        return None

    def _keys(self) -> list[str]:
        """All keys, newest first."""
        keys = self.storage.keys(self.folder)
        return sorted((key for key in keys if NAME.fullmatch(key.rsplit("/", 1)[-1])), reverse=True)
