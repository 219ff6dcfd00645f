"""Deletions of model versions, decided against the aliases that are pointed at them meanwhile.

The store locks nothing, so both sides write first and look afterwards. A deletion is begun, then
the aliases are looked at; an alias is pointed, then a deletion that has begun is looked for. What
both may see is decided by one revision, `done` or `refused`, that one of them writes first.
"""

from typing import Literal

from pydantic import BaseModel

from worker.revision_chain import RevisionChain
from worker.storage import ObjectExists, Storage

State = Literal["begun", "done", "refused"]


class Deletion(BaseModel):
    """One revision: a deletion has begun, is done, or was refused."""

    state: State


class Deletions:
    """The deletions of one model version; each begun one is followed by how it was decided."""

    def __init__(self, storage: Storage, name: str, version: int) -> None:
        folder = f"models/{name}/deletions/{version}"
        self._chain = RevisionChain(storage, folder, Deletion, "card")

    def is_done(self) -> bool:
        """Whether the version is deleted, though something of it may be left."""
        newest = self._newest()[1]
        return newest is not None and newest.state == "done"

    def begin(self) -> int:
        """Begin a deletion, or join one that is undecided; returns its number for `decide`."""
        while True:
            number, newest = self._newest()
            if newest is not None and newest.state != "refused":
                return number if newest.state == "begun" else number - 1
            try:
                self._chain.append(number + 1, Deletion(state="begun"))
            except ObjectExists:
                continue
            return number + 1

    def decide(self, number: int, state: Literal["done", "refused"]) -> bool:
        """Decide the deletion; False if it was decided otherwise before."""
        try:
            self._chain.append(number + 1, Deletion(state=state))
        except ObjectExists:
            return False
        return True

    def refuse(self) -> bool:
        """Refuse the deletion that has begun, if one has; False if the version is deleted."""
        number, newest = self._newest()
        if newest is None or newest.state == "refused":
            return True
        return newest.state == "begun" and self.decide(number, "refused")

    def _newest(self) -> tuple[int, Deletion | None]:
        number = self._chain.newest_number()
        return number, self._chain.read(number)
