"""Removal of model versions and of whole models: what refuses it, and what it leaves.

A deleted version's number and an alias's revision numbers stay taken, so that no late writer, cache
or image can mistake what comes later for what was deleted.
"""

import logging
import re
from collections.abc import Iterator
from functools import partial

from worker.ledger.records import Records
from worker.registry.aliases import Aliases
from worker.registry.cards import MODEL_NAME, Cards, name_of
from worker.registry.deletions import Deletion, Deletions
from worker.registry.model_versions import ModelCard, delete_files
from worker.registry.synonyms import synonyms_key
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import GenerateJob
from worker.storage import Storage

logger = logging.getLogger(__name__)

HOW_TO_END = "cancel it, or wait for its end"
FOLDERS = ("origins", "weights", "samples", "files")  # of a model, besides its cards and aliases


class VersionInUse(RuntimeError):
    """The version cannot be deleted: an alias points to it, or a job needs it."""


class ModelInUse(RuntimeError):
    """The model cannot be deleted: a job trains it or generates with it."""


class Removals:
    """Deletes versions and models of one object store, against everything that may need them."""

    def __init__(self, storage: Storage, cards: Cards, pointers: Aliases) -> None:
        self.storage = storage
        self.cards = cards
        self.pointers = pointers

    def delete_version(self, card: ModelCard) -> None:
        """Delete a version for good; its number is not used again.

        Raises:
            VersionInUse: an alias points to it, or a job that has not ended needs it.
        """
        name, version = card.name, card.version
        deletions = Deletions(self.storage, name, version)
        if not deletions.is_done():  # else a process died before it had deleted everything
            self._check_version_unused(name, version)
            begun = deletions.begin()
            try:
                self._check_version_unused(name, version)
            except VersionInUse:
                deletions.decide(begun, "refused")
                raise
            if not deletions.decide(begun, "done"):
                raise VersionInUse(f"version {version} was just taken into use")
        self._remove(card)

    def delete_model(self, name: str) -> bool:
        """Delete a model with all versions, aliases and their history; False if there is none.

        After a crash, the next call or `finish` completes it.

        Raises:
            ModelInUse: a job that has not ended needs it, or something of it was just taken into
                use.
        """
        was_unfinished = self.finish(name)
        if not self.cards.existing(name):
            return was_unfinished
        deletion = self._everything(name)  # before the jobs: one may register what is not listed
        self._check_model_unused(name)
        deletions = Deletions(self.storage, name, None)
        begun = deletions.begin(deletion)
        try:
            self._check_model_unused(name)
        except ModelInUse:
            deletions.decide(begun, "refused")
            raise
        if not deletions.decide(begun, "done"):
            raise ModelInUse(f"a version of {name!r} was just taken into use; try again")
        self.finish(name)
        return True

    def finish(self, name: str) -> bool:
        """Remove what a decided deletion of a model has left; whether there was one."""
        deletions = Deletions(self.storage, name, None)
        deletion = deletions.unfinished()
        if deletion is None:
            return False
        for version in deletion.versions:
            self.cards.delete(name, version)
        exists = partial(self.cards.exists, name)  # one that was registered since
        for alias in self.pointers.names(name):
            self.pointers.erase(name, alias, exists, deletion.alias_keys)
        left = self.cards.readable(name)
        needed = {card.weights_sha256 for card in left}
        # A damaged card may need any file.
        for key in deletion.file_keys if len(left) == len(self.cards.existing(name)) else ():
            if not any(digest in key for digest in needed):
                self.storage.delete(key)
        deletions.finish()
        return True

    def finish_all(self) -> None:
        """Complete the deletions of models that processes died over."""
        for name in self.storage.folders("models"):
            if re.fullmatch(MODEL_NAME, name) and self.finish(name):
                logger.warning("finished the deletion of model %s, which had broken off", name)

    def keep(self, name: str, version: int) -> bool:
        """Refuse the deletions of a version that are undecided; False if it is deleted."""
        ways = [Deletions(self.storage, name, version), Deletions(self.storage, name, None)]
        if all(deletions.refuse(version) for deletions in ways):
            return self.cards.exists(name, version)
        if (card := self.cards.find(name, version)) is not None:
            self._remove(card)  # so that no alias points to it, whoever dies now
        return False

    def was_deleted(self, name: str, origin: str, digest: str) -> bool:
        """Whether a version of this origin with these weights, or the whole model, is deleted."""
        newest = Deletions(self.storage, name, None).newest()
        was_whole = newest is not None and newest.state in ("done", "finished")
        if was_whole and not self.cards.existing(name):
            return True
        deleted = self.cards.deleted(name)
        return any((card.origin, card.weights_sha256) == (origin, digest) for card in deleted)

    def _everything(self, name: str) -> Deletion:
        """What there is of a model. Aliases first: the listed ones point to listed versions."""
        aliases = list(self.storage.keys(f"models/{name}/aliases"))
        versions = sorted(self.cards.existing(name))
        files = [key for each in FOLDERS for key in self.storage.keys(f"models/{name}/{each}")]
        cards = self.cards.readable(name)
        if len(cards) == len(versions):  # a damaged card may have any file
            own = {text for card in cards for text in (card.weights_sha256, card.origin)}
            files = [key for key in files if key.split("/")[3].split(".")[0] in own]
        if self.storage.exists(synonyms_key(name)):
            files.append(synonyms_key(name))
        return Deletion(state="begun", versions=versions, alias_keys=aliases, file_keys=files)

    def _check_version_unused(self, name: str, version: int) -> None:
        """Raise VersionInUse if a job needs the version, or an alias points or may point to it."""
        for job in self._open_jobs():
            if isinstance(job.request, GenerateJob) and job.request.model == f"{name}:{version}":
                raise VersionInUse(f"{job.id} generates with version {version}; {HOW_TO_END}")
        existing = self.cards.existing(name)
        for alias in self.pointers.names(name):
            try:
                if self.pointers.target(name, alias, existing.__contains__) == version:
                    raise VersionInUse(f"{name}@{alias} points to version {version}")
            except RecordDamaged as error:
                raise VersionInUse(
                    f"{name}@{alias} is damaged and may point to version {version}; point it anew"
                ) from error

    def _check_model_unused(self, name: str) -> None:
        """Raise ModelInUse if a job needs the model."""
        for job in self._open_jobs():
            if isinstance(job.request, GenerateJob):
                if name_of(job.request.model or "") == name:
                    raise ModelInUse(f"{job.id} generates with {name!r}; {HOW_TO_END}")
            elif job.model == name:
                raise ModelInUse(f"{job.id} trains {name!r}; {HOW_TO_END}")

    def _open_jobs(self) -> Iterator[JobRecord]:
        return (job for job in Records(self.storage).marked_open() if not job.terminal)

    def _remove(self, card: ModelCard) -> None:
        """Remove a version whose deletion is decided, with the files that no other one needs."""
        self.cards.delete(card.name, card.version)
        left = self.cards.readable(card.name)
        is_needed = any(other.weights_sha256 == card.weights_sha256 for other in left)
        # A damaged card may need any file.
        if not is_needed and len(left) == len(self.cards.existing(card.name)):
            delete_files(self.storage, card.name, card.weights_sha256)
