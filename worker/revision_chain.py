"""Revision chain: an append-only history in object storage, safe against concurrent writers.

A chain is a folder of numbered objects, one for each revision. The store creates each number once
(compare-and-set), so of two processes that append the same revision one succeeds and the other gets
`ObjectExists`. Job records, webhook deliveries, model aliases and deletions are such chains.
"""

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from worker import damage
from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

Revision = TypeVar("Revision", bound=BaseModel)


class RecordDamaged(StorageError):
    """A stored revision cannot be parsed; the store itself works."""


class RevisionChain(Generic[Revision]):
    """One chain; `digits` is the width of the revision number in the object's name.

    `what` names the chain's content where damage is reported.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        kind: type[Revision],
        what: damage.Kind,
        *,
        digits: int = 6,
    ) -> None:
        self.storage = storage
        self.folder = folder
        self.kind = kind
        self.what = what
        self.digits = digits

    def append(self, number: int, revision: Revision) -> None:
        """Write the revision of this number, counted from 1; durable when this returns.

        Raises:
            ObjectExists: another process has written this number first.
        """
        key, data = self.key(number), revision.model_dump_json().encode()
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
            return self._parse(self.key(number))
        except ObjectNotFound:
            return None

    def newest(self) -> Revision | None:
        """The last revision; None where the chain is empty.

        Raises:
            RecordDamaged: it cannot be read.
        """
        number = self.newest_number()
        return self._parse(self.key(number)) if number else None

    def newest_number(self) -> int:
        """The number of the last revision, damaged or not; 0 where the chain is empty."""
        return max(self._numbers(), default=0)

    def revisions(self) -> list[Revision]:
        """The revisions that can be read, oldest first."""
        found = []
        for number in self._numbers():
            try:
                found.append(self._parse(self.key(number)))
            except RecordDamaged:  # it has been reported
                continue
        return found

    def delete(self) -> None:
        """Remove all revisions, the first one first, for good before the others."""
        self.storage.delete(self.key(1))
        self.storage.clear(self.folder)

    def key(self, number: int) -> str:
        """Storage key of the revision of this number."""
        return f"{self.folder}/{number:0{self.digits}d}.json"

    def _parse(self, key: str) -> Revision:
        try:
            return self.kind.model_validate_json(self.storage.read(key))
        except ValidationError as error:
            damage.report(self.storage, self.what, key)
            raise RecordDamaged(f"{key} is damaged") from error

    def _numbers(self) -> Iterator[int]:
        """Numbers of all revisions, ascending; other objects in the folder are not revisions."""
        name = re.compile(rf"{re.escape(self.folder)}/([0-9]{{{self.digits}}})\.json")
        for key in self.storage.keys(self.folder):
            if found := name.fullmatch(key):
                yield int(found[1])
