"""Model registry: immutable model versions, and the aliases that point to them.

A version exists when its card does: weights and other files are stored first, under the weights'
digest, and the card is created last, by a compare-and-set that one writer wins for each number.
"""

import hashlib
import re

from worker.registry.aliases import AliasChange, Aliases
from worker.registry.model_versions import (
    ModelCard,
    NewVersion,
    card_key,
    file_key,
    samples_key,
    weights_key,
)
from worker.schemas.requests import AliasName
from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

PRODUCTION = "production"
DELETED = "deleted.json"  # in place of a version's card
SHIPPED = "shipped"  # origin of a bundled version, in place of a job's id
REFERENCE = re.compile(
    r"^([a-z0-9][a-z0-9-]{0,62})(?:@([a-z][a-z0-9-]{0,62})|:([1-9][0-9]{0,8}))?$"
)


class ModelNotFound(LookupError):
    """There is no such model, version or alias."""


class InvalidReference(ValueError):
    """A model reference is not of the form `name`, `name@alias` or `name:version`."""


class VersionInUse(RuntimeError):
    """The version cannot be deleted: an alias points to it."""


class WeightsDamaged(RuntimeError):
    """The stored weights are missing or do not have the digest that their card states."""


class Registry:
    """The models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.pointers = Aliases(storage)

    def register(self, new: NewVersion) -> ModelCard:
        """Store a version under the next free number.

        A job makes one version: if two of its attempts register, even with different weights, both
        get the version of the first one.

        Raises:
            StorageError: the store failed, or the weights read back differ from those written.
        """
        digest = hashlib.sha256(new.weights).hexdigest()
        self._store_files(new, digest)
        card = new.unnumbered(digest)
        if new.origin != SHIPPED:
            card = self._first_of(card)
        while True:
            # The number first: a concurrent registration takes this number, or is found below.
            number = max(self._numbers(new.name), default=0) + 1
            for known in self.versions(new.name):
                if (known.origin, known.weights_sha256) == (card.origin, card.weights_sha256):
                    return known
            numbered = card.model_copy(update={"version": number})
            try:
                self.storage.create(card_key(new.name, number), numbered.model_dump_json().encode())
            except ObjectExists:
                continue  # another process took the number
            return numbered

    def names(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        names = self.storage.folders("models")
        return [name for name in names if self._has_version(name)]

    def versions(self, name: str) -> list[ModelCard]:
        """Cards of all versions of a model, oldest first."""
        cards = (self._find(name, number) for number in self._numbers(name))
        return [card for card in cards if card is not None]

    def card(self, name: str, version: int) -> ModelCard:
        """One version's card.

        Raises:
            ModelNotFound: there is no such version.
        """
        card = self._find(name, version)
        if card is None:
            raise ModelNotFound(f"no version {version} of model {name!r}")
        return card

    def resolve(self, reference: str) -> ModelCard:
        """The version that `name`, `name@alias` or `name:version` refers to.

        A bare name is its `production` alias, or the newest version where that is not set.

        Raises:
            InvalidReference: the reference has another form.
            ModelNotFound: there is no such model, alias or version.
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise InvalidReference("model must be name, name@alias or name:version")
        name, alias, version = match.groups()
        if version is not None:
            return self.card(name, int(version))
        aliases = self.aliases(name)
        wanted = alias or PRODUCTION
        if wanted in aliases:
            return self.card(name, aliases[wanted])
        versions = [] if alias else self.versions(name)
        if not versions:
            raise ModelNotFound(f"no model {reference!r}")
        return versions[-1]

    def aliases(self, name: str) -> dict[str, int]:
        """Current version of each alias of a model."""
        return self.pointers.current(name)

    def point(self, name: str, alias: AliasName, version: int) -> AliasChange:
        """Point an alias at an existing version; does nothing if it points there already.

        Raises:
            ModelNotFound: there is no such version.
        """
        self.card(name, version)
        return self.pointers.point(name, alias, version)

    def history(self, name: str, alias: str) -> list[AliasChange]:
        """All changes of an alias, oldest first.

        Raises:
            ModelNotFound: there is no such alias.
        """
        changes = self.pointers.history(name, alias)
        if not changes:
            raise ModelNotFound(f"no alias {name}@{alias}")
        return changes

    def roll_back(self, name: str, alias: str) -> AliasChange:
        """Point an alias at the version that it pointed to before.

        Raises:
            ModelNotFound: there is no such alias.
            NothingToRollBack: it has not pointed to another version that still exists.
        """
        self.history(name, alias)
        versions = {card.version for card in self.versions(name)}
        return self.pointers.roll_back(name, alias, versions)

    def delete(self, name: str, version: int) -> None:
        """Delete a version for good; its number is not used again.

        Raises:
            ModelNotFound: there is no such version.
            VersionInUse: an alias points to it.
        """
        card = self.card(name, version)
        pointing = [alias for alias, target in self.aliases(name).items() if target == version]
        if pointing:
            raise VersionInUse(f"{name}@{pointing[0]} points to version {version}")
        folder = f"models/{name}/versions/{version}"
        self.storage.put(f"{folder}/{DELETED}", card.model_dump_json().encode())
        self.storage.delete(card_key(name, version))
        digest = card.weights_sha256
        if all(other.weights_sha256 != digest for other in self.versions(name)):
            self.storage.delete(weights_key(name, digest))
            self.storage.delete(samples_key(name, digest))
            self.storage.clear(f"models/{name}/files/{digest}")

    def was_deleted(self, name: str, origin: str, digest: str) -> bool:
        """Whether a version of this origin with these weights has been deleted."""
        for number in self._numbers(name):
            key = f"models/{name}/versions/{number}/{DELETED}"
            if self.storage.exists(key):
                card = ModelCard.model_validate_json(self.storage.read(key))
                if (card.origin, card.weights_sha256) == (origin, digest):
                    return True
        return False

    def _numbers(self, name: str) -> list[int]:
        """Numbers of all versions, including deleted ones, sorted."""
        return sorted(int(part) for part in self.storage.folders(f"models/{name}/versions"))

    def _has_version(self, name: str) -> bool:
        keys = self.storage.keys(f"models/{name}/versions")
        return any(not key.endswith(DELETED) for key in keys)

    def _find(self, name: str, version: int) -> ModelCard | None:
        try:
            return ModelCard.model_validate_json(self.storage.read(card_key(name, version)))
        except ObjectNotFound:
            return None

    def _store_files(self, new: NewVersion, digest: str) -> None:
        key = weights_key(new.name, digest)
        self.storage.put(key, new.weights)
        if hashlib.sha256(self.storage.read(key)).hexdigest() != digest:
            raise StorageError("the object store has damaged what it was given")
        self.storage.put(samples_key(new.name, digest), new.samples_png)
        for file, data in new.files.items():
            self.storage.put(file_key(new.name, digest, file), data)

    def _first_of(self, card: ModelCard) -> ModelCard:
        """The card, without number, of the first of the job's attempts that registered."""
        key = f"models/{card.name}/origins/{card.origin}.json"
        try:
            self.storage.create(key, card.model_dump_json().encode())
        except ObjectExists:
            return ModelCard.model_validate_json(self.storage.read(key))
        return card

    def weights(self, card: ModelCard) -> bytes:
        """The safetensors file of a version.

        Raises:
            WeightsDamaged: it is missing, or differs from what was registered.
        """
        try:
            data = self.storage.read(weights_key(card.name, card.weights_sha256))
        except ObjectNotFound as error:
            raise WeightsDamaged(
                f"the weights of {card.name}:{card.version} are missing"
            ) from error
        if hashlib.sha256(data).hexdigest() != card.weights_sha256:
            raise WeightsDamaged(f"the weights of {card.name}:{card.version} are damaged")
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
