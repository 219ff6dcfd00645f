"""Model aliases: an append-only history of changes for each, whose newest entry is in force.

Every change is an object of its own, written by compare-and-set. A rollback is a change too: it
undoes the last one that is not undone yet.
"""

from pydantic import BaseModel

from worker.revision_chain import RevisionChain
from worker.schemas.jobs import now
from worker.storage import ObjectExists, Storage


class NothingToRollBack(RuntimeError):
    """The alias has not pointed to another version that still exists."""


class AliasChange(BaseModel):
    """One entry of an alias's history."""

    alias: str
    version: int
    created_at: str
    is_rollback: bool = False


class Aliases:
    """The aliases of all models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def current(self, name: str) -> dict[str, int]:
        """Current version of each alias of a model."""
        current = {}
        for alias in self.storage.folders(f"models/{name}/aliases"):
            newest = self._chain(name, alias).newest()
            if newest is not None:
                current[alias] = newest.version
        return current

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """All changes, oldest first; empty where there is no such alias."""
        return self._chain(name, alias).revisions()

    def point(self, name: str, alias: str, version: int) -> AliasChange:
        """Point an alias at a version; does nothing if it points there already."""
        return self._append(name, alias, version, is_rollback=False)

    def roll_back(self, name: str, alias: str, versions: set[int]) -> AliasChange:
        """Point an alias at the version before, skipping deleted ones: those not in `versions`.

        Raises:
            NothingToRollBack: there is no such version.
        """
        places = _undone(self.history(name, alias))
        before = [version for version in places[:-1] if version in versions]
        if not before:
            raise NothingToRollBack(f"{name}@{alias} has not pointed to another version before")
        return self._append(name, alias, before[-1], is_rollback=True)

    def _append(self, name: str, alias: str, version: int, *, is_rollback: bool) -> AliasChange:
        while True:
            entries = self.history(name, alias)
            if entries and entries[-1].version == version:
                return entries[-1]
            change = AliasChange(
                alias=alias,
                version=version,
                created_at=now().isoformat().replace("+00:00", "Z"),
                is_rollback=is_rollback,
            )
            try:
                self._chain(name, alias).append(len(entries) + 1, change)
            except ObjectExists:
                continue  # another process appended this number first
            return change

    def _chain(self, name: str, alias: str) -> RevisionChain[AliasChange]:
        return RevisionChain(self.storage, f"models/{name}/aliases/{alias}", AliasChange, digits=8)


def _undone(history: list[AliasChange]) -> list[int]:
    """The versions that the alias has pointed to, without the changes that rollbacks undid."""
    places: list[int] = []
    for change in history:
        if change.is_rollback:
            while places and places[-1] != change.version:
                places.pop()
        else:
            places.append(change.version)
    return places
