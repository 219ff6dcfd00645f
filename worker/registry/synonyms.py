"""Synonyms of a model's categories: further words that name one in a prompt; versions share them.

Kept in one object for each model; the last write wins.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from models.data.category_names import fold, index_of
from worker import damage
from worker.storage import ObjectNotFound, Storage


class UnknownCategory(ValueError):
    """Synonyms are given for a category that no version of the model has."""


class AmbiguousSynonym(ValueError):
    """A synonym would name more than one category."""


class SynonymList(BaseModel):
    """The synonyms of each category that has some."""

    synonyms: dict[str, list[str]]


class Synonyms:
    """The synonyms of all models in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def read(self, name: str) -> dict[str, list[str]]:
        """The synonyms of a model, by category; none where they are damaged, which is reported."""
        key = synonyms_key(name)
        try:
            return SynonymList.model_validate_json(self.storage.read(key)).synonyms
        except ObjectNotFound:
            return {}
        except ValidationError:
            damage.report(self.storage, "synonyms", key)
            return {}

    def replace(
        self, name: str, categories: Sequence[str], synonyms: Mapping[str, Sequence[str]]
    ) -> dict[str, list[str]]:
        """Replace the synonyms of a model; `categories` are those of all its versions.

        Raises:
            UnknownCategory: one is not among `categories`.
            AmbiguousSynonym: one would name two categories.
        """
        kept: dict[str, list[str]] = {}
        owners = {fold(category): category for category in categories}
        for given, words in synonyms.items():
            index = index_of(given, categories)
            if index is None:
                raise UnknownCategory(f"synonyms: {name} has no category {given!r}")
            category = categories[index]
            if category in kept:
                raise AmbiguousSynonym(f"synonyms: {category!r} is there twice")
            for word in words:
                owner = owners.setdefault(fold(word), category)
                if fold(owner) != fold(category):
                    raise AmbiguousSynonym(f"synonyms: {word!r} would name {owner!r} too")
            kept[category] = list(words)
        self.storage.put(synonyms_key(name), SynonymList(synonyms=kept).model_dump_json().encode())
        return kept


def synonyms_key(name: str) -> str:
    """The object that holds a model's synonyms."""
    return f"models/{name}/synonyms.json"
