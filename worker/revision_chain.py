"""Revision chain: an append-only history in object storage, safe against concurrent writers.

A chain is a folder of numbered objects, one for each revision. The store creates each number once
(compare-and-set), so of two processes that append the same revision one succeeds and the other gets
`ObjectExists`. Job records, webhook deliveries and model aliases are such chains.
"""

from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

Revision = TypeVar("Revision", bound=BaseModel)


class RecordDamaged(StorageError):
    """A stored revision cannot be parsed; the store itself works."""


class RevisionChain(Generic[Revision]):
    """One chain; `digits` is the width of the revision number in the object's name."""

    def __init__(
        self, storage: Storage, folder: str, kind: type[Revision], *, digits: int = 6
    ) -> None:
        self.storage = storage
        self.folder = folder
        self.kind = kind
        self.digits = digits

    def append(self, number: int, revision: Revision) -> None:
        """Write the revision of this number, counted from 1; durable when this returns.

        Raises:
            ObjectExists: another process has written this number first.
        """
        key, data = self._key(number), revision.model_dump_json().encode()
        try:
            self.storage.create(key, data)
        except ObjectExists:
            # This write may have succeeded and only the store's response been lost.
            if self.storage.read(key) != data:
                raise

    def read(self, number: int) -> Revision | None:
        """The revision of this number; None where there is none.

        Raises:
            RecordDamaged: it cannot be read.
        """
        try:
            return self._parse(self._key(number))
        except ObjectNotFound:
            return None

    def newest(self) -> Revision | None:
        """The last revision; None where the chain is empty.

        Raises:
            RecordDamaged: it cannot be read.
        """
        keys = list(self.storage.keys(self.folder))
        return self._parse(keys[-1]) if keys else None

    def revisions(self) -> list[Revision]:
        """All revisions, oldest first.

        Raises:
            RecordDamaged: one of them cannot be read.
        """
        return [self._parse(key) for key in self.storage.keys(self.folder)]

    def delete(self) -> None:
        """Remove all revisions, the first one first."""
        self.storage.clear(self.folder)

    def _parse(self, key: str) -> Revision:
        try:
            return self.kind.model_validate_json(self.storage.read(key))
        except ValidationError as error:
            raise RecordDamaged(f"{key} is damaged") from error

    def _key(self, number: int) -> str:
        return f"{self.folder}/{number:0{self.digits}d}.json"
