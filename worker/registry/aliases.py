"""Model aliases: an append-only history of changes for each.

Every change is an object of its own, written by compare-and-set. The newest change whose version
exists is in force: one that lost against the deletion of its version never was. A rollback is a
change too: it undoes the last one that is not undone yet. So is a deletion: a change to no version.
"""

import re
from collections.abc import Callable, Collection
from contextlib import suppress

from pydantic import BaseModel, Field

from worker.revision_chain import RecordDamaged, RevisionChain
from worker.schemas.jobs import now
from worker.storage import ObjectExists, Storage

ALIAS_NAME = "[a-z][a-z0-9-]{0,62}"


class NothingToRollBack(RuntimeError):
    """The alias has not pointed to another version that still exists."""


class AliasChanged(RuntimeError):
    """The alias was changed by another request while this one was to delete it."""


class AliasChange(BaseModel):
    """One entry of an alias's history."""

    alias: str
    version: int | None = Field(description="`null`: the alias was deleted.")
    created_at: str
    is_rollback: bool = False


class Aliases:
    """The aliases of all models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def names(self, name: str) -> list[str]:
        """The aliases of a model, also damaged ones, sorted."""
        found = self.storage.folders(f"models/{name}/aliases")
        return [alias for alias in found if re.fullmatch(ALIAS_NAME, alias)]

    def target(self, name: str, alias: str, exists: Callable[[int], bool]) -> int | None:
        """The version that an alias points to, one that `exists`; None if it is not set.

        Raises:
            RecordDamaged: its newest change cannot be read. Pointing it anew repairs it.
        """
        newest = self._chain(name, alias).newest()
        if newest is None or newest.version is None or exists(newest.version):
            return None if newest is None else newest.version
        earlier = (change.version for change in reversed(self.history(name, alias)))
        return next((version for version in earlier if version is None or exists(version)), None)

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """All changes that can be read, oldest first; empty where there is no such alias."""
        return self._chain(name, alias).revisions()

    def point(self, name: str, alias: str, version: int) -> AliasChange:
        """Point an alias at a version; does nothing if it points there already."""
        return self._append(name, alias, version, is_rollback=False)

    def roll_back(self, name: str, alias: str, versions: Collection[int]) -> AliasChange:
        """Point an alias at the version before, skipping deleted ones: those not in `versions`.

        Raises:
            NothingToRollBack: there is no such version.
        """
        history = self.history(name, alias)
        while history and history[-1].version not in (None, *versions):
            history.pop()  # it never was in force
        before = [at for at in _undone(history)[:-1] if at is not None and at in versions]
        if not before:
            raise NothingToRollBack(f"{name}@{alias} has not pointed to another version before")
        return self._append(name, alias, before[-1], is_rollback=True)

    def delete(self, name: str, alias: str, exists: Callable[[int], bool]) -> bool:
        """Delete an alias, also a damaged one; False if it is not set.

        Raises:
            AliasChanged: another process has changed it meanwhile.
        """
        chain = self._chain(name, alias)
        number = chain.newest_number()
        with suppress(RecordDamaged):  # this repairs it
            if self.target(name, alias, exists) is None:
                return False
        try:
            chain.append(number + 1, _change(alias, None))
        except ObjectExists as error:
            raise AliasChanged(
                f"{name}@{alias} was changed just now; look, and try again"
            ) from error
        return True

    def erase(
        self, name: str, alias: str, exists: Callable[[int], bool], keys: Collection[str]
    ) -> None:
        """Delete those revisions of a deleted model's alias that have these storage keys.

        Only the newest one stays, to no version: its number is not used again.
        """
        chain = self._chain(name, alias)
        number = chain.newest_number()
        newest = self._readable(chain, number)
        if newest is None or (newest.version is not None and not exists(newest.version)):
            with suppress(ObjectExists):  # another process has changed it
                chain.append(number + 1, _change(alias, None))
        stays = chain.key(chain.newest_number())
        for key in keys:
            if key.startswith(f"{chain.folder}/") and key != stays:
                self.storage.delete(key)

    def _append(self, name: str, alias: str, version: int, *, is_rollback: bool) -> AliasChange:
        chain = self._chain(name, alias)
        while True:
            number = chain.newest_number()
            newest = self._readable(chain, number)
            if newest is not None and newest.version == version:
                return newest
            change = _change(alias, version, is_rollback=is_rollback)
            try:
                chain.append(number + 1, change)
            except ObjectExists:
                continue  # another process appended this number first
            return change

    @staticmethod
    def _readable(chain: RevisionChain[AliasChange], number: int) -> AliasChange | None:
        try:
            return chain.read(number)
        except RecordDamaged:  # the next change repairs the alias
            return None

    def _chain(self, name: str, alias: str) -> RevisionChain[AliasChange]:
        folder = f"models/{name}/aliases/{alias}"
        return RevisionChain(self.storage, folder, AliasChange, "alias", digits=8)


def _change(alias: str, version: int | None, *, is_rollback: bool = False) -> AliasChange:
    created_at = now().isoformat().replace("+00:00", "Z")
    return AliasChange(alias=alias, version=version, created_at=created_at, is_rollback=is_rollback)


def _undone(history: list[AliasChange]) -> list[int | None]:
    """The versions that the alias has pointed to, without the changes that rollbacks undid."""
    places: list[int | None] = []
    for change in history:
        if change.is_rollback:
            while places and places[-1] != change.version:
                places.pop()
        else:
            places.append(change.version)
    return places
