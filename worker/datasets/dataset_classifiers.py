"""Classifiers of a data set: what its jobs have fitted, one for each resolution of theirs.

A classifier is tested on the photos that jobs at its resolution hold out, and fitted on the others.
"""

import re

from worker.storage import ObjectNotFound, Storage

FILE = re.compile(r"(\d+)\.safetensors")


class ClassifierMissing(LookupError):
    """There is no classifier; the message says how to get one."""


class DatasetClassifiers:
    """The classifiers of one data set in object storage, as bytes."""

    def __init__(self, storage: Storage, dataset_id: str) -> None:
        self.storage = storage
        self.folder = f"datasets/{dataset_id}/classifiers"

    def read(self, resolution: int) -> bytes | None:
        """The one for a resolution; None where no job has fitted it."""
        try:
            return self.storage.read(self._key(resolution))
        except ObjectNotFound:
            return None

    def store(self, resolution: int, data: bytes) -> None:
        """Store the one for a resolution."""
        self.storage.put(self._key(resolution), data)

    def largest(self) -> int | None:
        """The largest resolution that there is one for."""
        names = (key.rsplit("/", 1)[-1] for key in self.storage.keys(self.folder))
        found = [int(match[1]) for match in map(FILE.fullmatch, names) if match]
        return max(found, default=None)

    def _key(self, resolution: int) -> str:
        return f"{self.folder}/{resolution}.safetensors"
