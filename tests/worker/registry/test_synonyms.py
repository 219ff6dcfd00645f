"""Synonyms of a model's categories."""

import pytest

from worker.registry.synonyms import AmbiguousSynonym, Synonyms, UnknownCategory
from worker.storage import Storage

CATEGORIES = ["Dress", "Bag"]


@pytest.fixture
def synonyms(storage: Storage) -> Synonyms:
    return Synonyms(storage)


def test_synonyms_are_kept_for_a_model_until_they_are_replaced(
    synonyms: Synonyms, storage: Storage
) -> None:
    assert synonyms.read("shoes") == {}
    synonyms.replace("shoes", CATEGORIES, {"DRESS": ["gown", "Kleid"], "Bag": ["tote"]})
    assert Synonyms(storage).read("shoes") == {"Dress": ["gown", "Kleid"], "Bag": ["tote"]}
    assert synonyms.read("hats") == {}
    synonyms.replace("shoes", CATEGORIES, {"Dress": ["frock"]})
    assert Synonyms(storage).read("shoes") == {"Dress": ["frock"]}


@pytest.mark.parametrize(
    "wanted",
    [
        {"Dress": ["sac"], "Bag": ["SAC"]},
        {"Dress": ["bag"]},
        {"Dress": ["gown"], "dress": ["frock"]},
    ],
)
def test_a_synonym_names_one_category(synonyms: Synonyms, wanted: dict[str, list[str]]) -> None:
    with pytest.raises(AmbiguousSynonym):
        synonyms.replace("shoes", CATEGORIES, wanted)
    assert synonyms.read("shoes") == {}


def test_a_category_may_be_among_its_own_synonyms(synonyms: Synonyms) -> None:
    wanted = {"Dress": ["dress", "gown", "Gown"]}
    assert synonyms.replace("shoes", CATEGORIES, wanted) == wanted


def test_a_category_that_no_version_has_is_refused(synonyms: Synonyms) -> None:
    with pytest.raises(UnknownCategory, match="'Hat'"):
        synonyms.replace("shoes", CATEGORIES, {"Hat": ["cap"]})


def test_damaged_synonyms_are_none_until_they_are_replaced(
    synonyms: Synonyms, storage: Storage
) -> None:
    storage.put("models/shoes/synonyms.json", b"{")
    assert synonyms.read("shoes") == {}
    assert storage.damaged == {"models/shoes/synonyms.json"}
    synonyms.replace("shoes", CATEGORIES, {"Dress": ["gown"]})
    assert synonyms.read("shoes") == {"Dress": ["gown"]}
