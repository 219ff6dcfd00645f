"""Model cards in object storage: a version exists as long as its card does."""

import re
from collections.abc import Iterator

from pydantic import ValidationError

from worker import damage
from worker.registry.model_versions import ModelCard, card_key
from worker.revision_chain import RecordDamaged
from worker.storage import ObjectExists, ObjectNotFound, Storage

DELETED = "deleted.json"  # beside or in place of a version's card
MODEL_NAME = "[a-z0-9][a-z0-9-]{0,62}"
NUMBER = "[1-9][0-9]{0,8}"


def name_of(reference: str) -> str:
    """The model's name in a reference: `name`, `name@alias` or `name:version`."""
    return re.split("[@:]", reference)[0]


class Cards:
    """The cards of all models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def models(self) -> list[str]:
        """Names of all models that have a version, sorted."""
        names = self.storage.folders("models")
        return [name for name in names if re.fullmatch(MODEL_NAME, name) and self.existing(name)]

    def numbers(self, name: str) -> list[int]:
        """Numbers of all versions of a model, also of deleted ones, sorted."""
        found = self.storage.folders(f"models/{name}/versions")
        return sorted(int(number) for number in found if re.fullmatch(NUMBER, number))

    def existing(self, name: str) -> set[int]:
        """Numbers of the versions that exist, also of those whose card is damaged."""
        key = re.compile(rf"models/{name}/versions/({NUMBER})/card\.json")
        keys = self.storage.keys(f"models/{name}/versions")
        return {int(match[1]) for match in map(key.fullmatch, keys) if match}

    def exists(self, name: str, version: int) -> bool:
        """Whether there is such a version, also a damaged one."""
        return self.storage.exists(card_key(name, version))

    def readable(self, name: str) -> list[ModelCard]:
        """The cards of a model that are not damaged, oldest first."""
        keys = (card_key(name, number) for number in sorted(self.existing(name)))
        return [card for card in map(self._intact, keys) if card is not None]

    def deleted(self, name: str) -> Iterator[ModelCard]:
        """The cards of deleted versions that are not damaged."""
        for number in self.numbers(name):
            card = self._intact(_deleted_key(name, number))
            if card is not None:
                yield card

    def find(self, name: str, version: int) -> ModelCard | None:
        """One version's card; None where there is none.

        Raises:
            RecordDamaged: it cannot be read.
        """
        return self._read(card_key(name, version))

    def create(self, card: ModelCard) -> None:
        """Make a version exist; raises ObjectExists where its number is taken."""
        data = card.model_dump_json().encode()
        self.storage.create(card_key(card.name, card.version), data)

    def delete(self, name: str, version: int) -> None:
        """Make a version not exist any more, also a damaged one; its number stays taken."""
        key = card_key(name, version)
        try:
            self.storage.put(_deleted_key(name, version), self.storage.read(key))
        except ObjectNotFound:
            return
        self.storage.delete(key)

    def first_of(self, card: ModelCard) -> ModelCard:
        """The card, without number, of the first of a job's attempts that registered."""
        key = f"models/{card.name}/origins/{card.origin}.json"
        data = card.model_dump_json().encode()
        try:
            self.storage.create(key, data)
        except ObjectExists:
            first = self._intact(key)
            if first is not None:
                return first
            self.storage.put(key, data)  # it is damaged
        return card

    def _intact(self, key: str) -> ModelCard | None:
        try:
            return self._read(key)
        except RecordDamaged:  # it has been reported
            return None

    def _read(self, key: str) -> ModelCard | None:
        try:
            return ModelCard.model_validate_json(self.storage.read(key))
        except ObjectNotFound:
            return None
        except ValidationError as error:
            damage.report(self.storage, "card", key)
            raise RecordDamaged(f"{key} is damaged") from error


def _deleted_key(name: str, version: int) -> str:
    return f"models/{name}/versions/{version}/{DELETED}"
