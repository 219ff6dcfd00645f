"""Where the aliases of models point: a history of changes for each, which can only grow.

Every change is an object of its own that storage lets one process create. A rollback is a change
too: it undoes the last one that is not undone yet.
"""

from pydantic import BaseModel

from worker.jobs import now
from worker.storage import ObjectExists, Storage


class NothingToRollBack(RuntimeError):
    """The alias has never pointed to another version that is still there."""


class AliasChange(BaseModel):
    """One entry of an alias's history."""

    alias: str
    version: int
    created_at: str
    is_rollback: bool = False


class Aliases:
    """Those of all models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def current(self, name: str) -> dict[str, int]:
        """Where each alias of a model points now."""
        current = {}
        for alias in self.storage.folders(f"models/{name}/aliases"):
            newest = max(self.storage.keys(_folder(name, alias)))
            change = AliasChange.model_validate_json(self.storage.read(newest))
            current[alias] = change.version
        return current

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """All changes, oldest first; empty where there is no such alias."""
        keys = self.storage.keys(_folder(name, alias))
        return [AliasChange.model_validate_json(self.storage.read(key)) for key in keys]

    def point(self, name: str, alias: str, version: int) -> AliasChange:
        """Point an alias at a version. It may point there already."""
        return self._append(name, alias, version, is_rollback=False)

    def roll_back(self, name: str, alias: str, versions: set[int]) -> AliasChange:
        """Point an alias at where it pointed before; only `versions` are still there.

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
            key = f"{_folder(name, alias)}/{len(entries) + 1:08d}.json"
            try:
                self.storage.create(key, change.model_dump_json().encode())
            except ObjectExists:
                continue  # somebody was faster; look again
            return change


def _undone(history: list[AliasChange]) -> list[int]:
    """The versions that the alias has pointed to, without what rollbacks have taken back."""
    places: list[int] = []
    for change in history:
        if change.is_rollback:
            while places and places[-1] != change.version:
                places.pop()
        else:
            places.append(change.version)
    return places


def _folder(name: str, alias: str) -> str:
    return f"models/{name}/aliases/{alias}"
