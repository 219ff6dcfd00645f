"""Model registry: immutable model versions, and the aliases that point to them.

A version exists when its card does: weights and other files are stored first, under the weights'
digest, and the card is created last, by a compare-and-set that one writer wins for each number.
"""

import hashlib
import re
from functools import partial

from worker.registry.aliases import ALIAS_NAME, AliasChange, Aliases
from worker.registry.cards import MODEL_NAME, NUMBER, Cards
from worker.registry.model_versions import (
    ModelCard,
    NewVersion,
    file_key,
    samples_key,
    store_files,
    weights_key,
)
from worker.registry.removal import Removals
from worker.registry.synonyms import Synonyms
from worker.revision_chain import RecordDamaged
from worker.schemas.requests import AliasName
from worker.storage import ObjectExists, ObjectNotFound, Storage

PRODUCTION = "production"
SHIPPED = "shipped"  # origin of a bundled version, in place of a job's id
REFERENCE = re.compile(rf"^({MODEL_NAME})(?:@({ALIAS_NAME})|:({NUMBER}))?$")


class ModelNotFound(LookupError):
    """There is no such model, version or alias."""


class InvalidReference(ValueError):
    """A model reference is not of the form `name`, `name@alias` or `name:version`."""


class WeightsDamaged(RuntimeError):
    """The stored weights are missing or do not have the digest that their card states."""


class Registry:
    """The models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.cards = Cards(storage)
        self.pointers = Aliases(storage)
        self.synonyms = Synonyms(storage)
        self.removals = Removals(storage, self.cards, self.pointers)

    def register(self, new: NewVersion) -> ModelCard:
        """Store a version under the next free number.

        A job makes one version: if two of its attempts register, even with different weights, both
        get the version of the first one.

        Raises:
            StorageError: the store failed, or the weights read back differ from those written.
        """
        self.removals.finish(new.name)  # else it could delete these files
        digest = hashlib.sha256(new.weights).hexdigest()
        store_files(self.storage, new, digest)
        card = new.unnumbered(digest)
        if new.origin != SHIPPED:
            card = self.cards.first_of(card)
        while True:
            # The number first: a concurrent registration takes this number, or is found below.
            number = max(self.cards.numbers(new.name), default=0) + 1
            for known in self.versions(new.name):
                if (known.origin, known.weights_sha256) == (card.origin, card.weights_sha256):
                    return known
            numbered = card.model_copy(update={"version": number})
            try:
                self.cards.create(numbered)
            except ObjectExists:
                continue  # another process took the number
            return numbered

    def names(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        return self.cards.models()

    def versions(self, name: str) -> list[ModelCard]:
        """Cards of all versions of a model, oldest first; damaged ones are left out."""
        return self.cards.readable(name)

    def card(self, name: str, version: int) -> ModelCard:
        """One version's card.

        Raises:
            ModelNotFound: there is no such version.
            RecordDamaged: the card cannot be read.
        """
        card = self.cards.find(name, version)
        if card is None:
            raise ModelNotFound(f"no version {version} of model {name!r}")
        return card

    def resolve(self, reference: str) -> ModelCard:
        """The version that `name`, `name@alias` or `name:version` refers to.

        A bare name is its `production` alias, or the newest version where that is not set.

        Raises:
            InvalidReference: the reference has another form.
            ModelNotFound: there is no such model, alias or version.
            RecordDamaged: the alias or the card cannot be read.
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise InvalidReference("model must be name, name@alias or name:version")
        name, alias, version = match.groups()
        if version is not None:
            return self.card(name, int(version))
        target = self.pointers.target(name, alias or PRODUCTION, partial(self.cards.exists, name))
        if target is not None:
            return self.card(name, target)
        versions = [] if alias else self.versions(name)
        if not versions:
            raise ModelNotFound(f"no model {reference!r}")
        return versions[-1]

    def aliases(self, name: str) -> dict[str, int]:
        """Current version of each alias of a model; damaged aliases are left out."""
        existing, found = self.cards.existing(name), {}
        for alias in self.pointers.names(name):
            try:
                target = self.pointers.target(name, alias, existing.__contains__)
            except RecordDamaged:  # it has been reported
                continue
            if target is not None:
                found[alias] = target
        return found

    def point(self, name: str, alias: AliasName, version: int) -> AliasChange:
        """Point an alias at an existing version; does nothing if it points there already.

        Raises:
            ModelNotFound: there is no such version, or it was deleted meanwhile.
        """
        self.card(name, version)
        change = self.pointers.point(name, alias, version)
        self.keep(name, version)
        return change

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """All changes of an alias, oldest first.

        Raises:
            ModelNotFound: there is no such alias.
        """
        changes = self.pointers.history(name, alias)
        if not changes or not self.cards.existing(name):
            raise ModelNotFound(f"no alias {name}@{alias}")
        return changes

    def roll_back(self, name: str, alias: str) -> AliasChange:
        """Point an alias at the version that it pointed to before.

        Raises:
            ModelNotFound: there is no such alias, or that version was deleted meanwhile.
            NothingToRollBack: it has not pointed to another version that still exists.
        """
        self.history(name, alias)
        change = self.pointers.roll_back(name, alias, self.cards.existing(name))
        assert change.version is not None
        self.keep(name, change.version)
        return change

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; its history stays, and a rollback sets it again.

        Raises:
            ModelNotFound: there is no such alias.
            AliasChanged: another process has changed it meanwhile.
        """
        if not self.pointers.delete(name, alias, self.cards.existing(name).__contains__):
            raise ModelNotFound(f"no alias {name}@{alias}")

    def delete(self, name: str, version: int) -> None:
        """Delete a version for good; its number is not used again.

        Raises:
            ModelNotFound: there is no such version.
            VersionInUse: an alias points to it, or a job that has not ended needs it.
        """
        self.removals.delete_version(self.card(name, version))

    def delete_model(self, name: str) -> None:
        """Delete a model for good, with its aliases and their history.

        Raises:
            ModelNotFound: there is no such model.
            ModelInUse: a job that has not ended needs it, or it was just taken into use.
        """
        if not self.removals.delete_model(name):
            raise ModelNotFound(f"no model {name!r}")

    def keep(self, name: str, version: int) -> None:
        """Return once no deletion that has begun can delete the version.

        To be called after writing what needs it: a deletion that begins later finds that.

        Raises:
            ModelNotFound: the version was deleted meanwhile.
        """
        if not self.removals.keep(name, version):
            raise ModelNotFound(f"version {version} of model {name!r} was just deleted")

    def weights(self, card: ModelCard) -> bytes:
        """The safetensors file of a version.

        Raises:
            WeightsDamaged: it is missing, or differs from what was registered.
        """
        what = f"the weights of {card.name}:{card.version}"
        try:
            data = self.storage.read(weights_key(card.name, card.weights_sha256))
        except ObjectNotFound as error:
            raise WeightsDamaged(f"{what} are missing") from error
        if hashlib.sha256(data).hexdigest() != card.weights_sha256:
            raise WeightsDamaged(f"{what} are damaged")
        return data

    def samples(self, card: ModelCard) -> bytes:
        """The sample sheet of a version, PNG."""
        return self.storage.read(samples_key(card.name, card.weights_sha256))

    def file(self, card: ModelCard, file: str) -> bytes:
        """One of the files of a version.

        Raises:
            ModelNotFound: the version has no such file.
        """
        if file not in card.files:
            raise ModelNotFound(f"{card.name}:{card.version} has no file {file!r}")
        return self.storage.read(file_key(card.name, card.weights_sha256, file))
