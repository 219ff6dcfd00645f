"""Deletions of model versions and of whole models, decided against what takes them into use.

The store locks nothing, so both sides write first and look afterwards. A deletion is begun, then
the aliases and jobs are looked at; an alias is pointed or a job submitted, then a deletion that has
begun is looked for. What both may see is decided by one revision, `done` or `refused`, that one of
them writes first.
"""

from contextlib import suppress
from typing import Literal

from pydantic import BaseModel

from worker.revision_chain import RecordDamaged, RevisionChain
from worker.storage import ObjectExists, Storage

State = Literal["begun", "done", "refused", "finished"]


class Deletion(BaseModel):
    """One revision: a deletion has begun, is done, was refused, or has removed everything.

    That of a whole model names, when it begins, what it deletes.
    """

    state: State
    versions: list[int] = []
    alias_keys: list[str] = []  # of the changes of its aliases
    file_keys: list[str] = []  # of everything else


class Deletions:
    """The deletions of a version, or of a whole model where `version` is None.

    Each one that has begun is followed by how it was decided.
    """

    def __init__(self, storage: Storage, name: str, version: int | None) -> None:
        self.is_whole = version is None
        folder = f"models/{name}/deletions/{'model' if version is None else version}"
        self._chain = RevisionChain(storage, folder, Deletion, "card")

    def newest(self) -> Deletion | None:
        """The newest revision; None where no deletion has ever begun, or it is damaged."""
        with suppress(RecordDamaged):  # it has been reported
            return self._newest()[1]
        return None

    def is_done(self) -> bool:
        """Whether the deletion is decided, though something may be left to remove."""
        newest = self._newest()[1]
        return newest is not None and newest.state == "done"

    def begin(self, deletion: Deletion | None = None) -> int:
        """Begin a deletion, or join the same one; returns its number for `decide`.

        Another one that is undecided is refused.
        """
        deletion = deletion or Deletion(state="begun")
        while True:
            number, newest = self._newest()
            if newest == deletion:
                return number
            if newest is not None and newest.state == "done":
                return number - 1
            if newest is not None and newest.state == "begun":
                self.decide(number, "refused")
                continue
            try:
                self._chain.append(number + 1, deletion)
            except ObjectExists:
                continue
            return number + 1

    def decide(self, number: int, state: Literal["done", "refused"]) -> bool:
        """Decide the deletion; False if it was decided otherwise before."""
        return self._append(number + 1, state)

    def refuse(self, version: int) -> bool:
        """Refuse the deletion of this version that has begun; False if the version is deleted."""
        number, newest = self._newest()
        if newest is None or newest.state in ("refused", "finished"):
            return True
        begun = newest if newest.state == "begun" else self._chain.read(number - 1)
        if self.is_whole and (begun is None or version not in begun.versions):
            return True  # registered since
        return newest.state == "begun" and self.decide(number, "refused")

    def unfinished(self) -> Deletion | None:
        """What a deletion that is done, but may not have removed everything, deletes."""
        with suppress(RecordDamaged):  # it has been reported
            number, newest = self._newest()
            if newest is not None and newest.state == "done":
                return self._chain.read(number - 1)
        return None

    def finish(self) -> None:
        """Note that the deletion that is done has removed everything."""
        number, newest = self._newest()
        if newest is not None and newest.state == "done":
            self._append(number + 1, "finished")

    def _append(self, number: int, state: State) -> bool:
        try:
            self._chain.append(number, Deletion(state=state))
        except ObjectExists:
            return False
        return True

    def _newest(self) -> tuple[int, Deletion | None]:
        number = self._chain.newest_number()
        return number, self._chain.read(number)
