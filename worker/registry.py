"""Model versions, immutable, and the aliases that point to them.

A version exists when its card does: weights and sample sheet are stored first, under their digest,
and the card is created last, which storage lets only one writer do for each number. The history of
an alias is one object for each change, so that it can only grow.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field

from pydantic import BaseModel, JsonValue

from worker.jobs import now
from worker.requests import AliasName, ModelName
from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

PRODUCTION = "production"
SHIPPED = "shipped"  # in place of the job that made a version
REFERENCE = re.compile(
    r"^([a-z0-9][a-z0-9-]{0,62})(?:@([a-z][a-z0-9-]{0,62})|:([1-9][0-9]{0,8}))?$"
)


class ModelNotFound(LookupError):
    """No such model, version or alias."""


class InvalidReference(ValueError):
    """Not of the form `name`, `name@alias` or `name:version`."""


class WeightsDamaged(RuntimeError):
    """The stored weights do not have the digest that their card states."""


class ModelCard(BaseModel):
    """What a version is, how it was made, and how it was measured."""

    name: str
    version: int
    created_at: str
    weights_sha256: str
    weights_bytes: int
    origin: str  # `shipped`, or the id of the job that made it
    categories: list[str]
    capabilities: dict[str, JsonValue]
    architecture: dict[str, JsonValue]
    training: dict[str, JsonValue]
    data: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    search: dict[str, JsonValue] | None = None  # how the architecture was found, where it was
    files: list[str] = []  # curves, nearest neighbours and what else was measured


class AliasChange(BaseModel):
    """One entry of an alias's history."""

    alias: str
    version: int
    created_at: str


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """What is to be registered: bytes, and the card's fields that its maker knows."""

    name: ModelName
    weights: bytes
    samples_png: bytes
    origin: str
    card: dict[str, JsonValue]  # categories, capabilities, architecture, training, data, metrics
    files: dict[str, bytes] = field(default_factory=dict)


class Registry:
    """The models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def register(self, new: NewVersion) -> ModelCard:
        """Store a version under the next free number.

        A job makes one version: should two of its attempts come to this point, also with different
        weights, both get the version of the one that came first.

        Raises:
            StorageError: also where what was stored is not what can be read.
        """
        digest = hashlib.sha256(new.weights).hexdigest()
        self._store_files(new, digest)
        card = _card(new, 0, digest)
        if new.origin != SHIPPED:
            card = self._first_of(card)
        while True:
            cards = self.versions(new.name)
            for known in cards:
                if (known.origin, known.weights_sha256) == (card.origin, card.weights_sha256):
                    return known
            numbered = card.model_copy(update={"version": len(cards) + 1})
            try:
                self.storage.create(_card_key(numbered), numbered.model_dump_json().encode())
            except ObjectExists:
                continue  # somebody took the number; look again
            return numbered

    def names(self) -> list[str]:
        """All models that have a version, sorted."""
        names = self.storage.folders("models")
        return [name for name in names if self.storage.folders(f"models/{name}/versions")]

    def versions(self, name: str) -> list[ModelCard]:
        """All versions of a model, oldest first; empty when there is none."""
        numbers = sorted(int(part) for part in self.storage.folders(f"models/{name}/versions"))
        return [self.card(name, number) for number in numbers]

    def card(self, name: str, version: int) -> ModelCard:
        """One version's card.

        Raises:
            ModelNotFound: there is no such version.
        """
        try:
            key = f"models/{name}/versions/{version}/card.json"
            return ModelCard.model_validate_json(self.storage.read(key))
        except ObjectNotFound as error:
            raise ModelNotFound(f"no version {version} of model {name!r}") from error

    def resolve(self, reference: str) -> ModelCard:
        """The version that `name`, `name@alias` or `name:version` means.

        A bare name is its `production` alias, or the newest version where that is not set.

        Raises:
            InvalidReference: not of that form.
            ModelNotFound: it means nothing here.
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
        """Where each alias of a model points now."""
        current = {}
        for alias in self.storage.folders(f"models/{name}/aliases"):
            newest = max(self.storage.keys(f"models/{name}/aliases/{alias}"))
            current[alias] = int(json.loads(self.storage.read(newest))["version"])
        return current

    def point(self, name: str, alias: AliasName, version: int) -> AliasChange:
        """Point an alias at an existing version, and remember it. It may point there already.

        Raises:
            ModelNotFound: there is no such version.
        """
        self.card(name, version)
        entries = list(self.storage.keys(f"models/{name}/aliases/{alias}"))
        if entries:
            newest = AliasChange.model_validate_json(self.storage.read(entries[-1]))
            if newest.version == version:
                return newest
        change = AliasChange(alias=alias, version=version, created_at=_timestamp())
        number = len(entries) + 1
        while True:
            key = f"models/{name}/aliases/{alias}/{number:08d}.json"
            try:
                self.storage.create(key, change.model_dump_json().encode())
            except ObjectExists:
                number += 1
            else:
                return change

    def _store_files(self, new: NewVersion, digest: str) -> None:
        key = _weights_key(new.name, digest)
        self.storage.put(key, new.weights)
        if hashlib.sha256(self.storage.read(key)).hexdigest() != digest:
            raise StorageError("the object store has damaged what it was given")
        self.storage.put(_samples_key(new.name, digest), new.samples_png)
        for file, data in new.files.items():
            self.storage.put(_file_key(new.name, digest, file), data)

    def _first_of(self, card: ModelCard) -> ModelCard:
        """The card of the attempt that came first of those of one job, not numbered yet."""
        key = f"models/{card.name}/origins/{card.origin}.json"
        try:
            self.storage.create(key, card.model_dump_json().encode())
        except ObjectExists:
            return ModelCard.model_validate_json(self.storage.read(key))
        return card

    def weights(self, card: ModelCard) -> bytes:
        """The safetensors file of a version.

        Raises:
            WeightsDamaged: it is missing, or not what was registered.
        """
        try:
            data = self.storage.read(_weights_key(card.name, card.weights_sha256))
        except ObjectNotFound as error:
            raise WeightsDamaged(
                f"the weights of {card.name}:{card.version} are missing"
            ) from error
        if hashlib.sha256(data).hexdigest() != card.weights_sha256:
            raise WeightsDamaged(f"the weights of {card.name}:{card.version} are damaged")
        return data

    def samples(self, card: ModelCard) -> bytes:
        """The sample sheet of a version, PNG."""
        return self.storage.read(_samples_key(card.name, card.weights_sha256))

    def file(self, card: ModelCard, file: str) -> bytes:
        """One of the files of a version.

        Raises:
            ModelNotFound: the version has no such file.
        """
        if file not in card.files:
            raise ModelNotFound(f"{card.name}:{card.version} has no file {file!r}")
        return self.storage.read(_file_key(card.name, card.weights_sha256, file))


def _timestamp() -> str:
    return now().isoformat().replace("+00:00", "Z")


def _card(new: NewVersion, version: int, digest: str) -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": new.name,
            "version": version,
            "created_at": _timestamp(),
            "weights_sha256": digest,
            "weights_bytes": len(new.weights),
            "origin": new.origin,
            "files": sorted(new.files),
            **new.card,
        }
    )


def _card_key(card: ModelCard) -> str:
    return f"models/{card.name}/versions/{card.version}/card.json"


def _weights_key(name: str, digest: str) -> str:
    return f"models/{name}/weights/{digest}.safetensors"


def _samples_key(name: str, digest: str) -> str:
    return f"models/{name}/samples/{digest}.png"


def _file_key(name: str, digest: str, file: str) -> str:
    return f"models/{name}/files/{digest}/{file}"
