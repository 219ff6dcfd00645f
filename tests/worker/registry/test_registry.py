"""Model versions and aliases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import JsonValue

from worker.registry.bundled_models import register_models
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import (
    InvalidReference,
    ModelNotFound,
    Registry,
    WeightsDamaged,
)
from worker.storage import Storage, StorageError

CARD: dict[str, JsonValue] = {
    "categories": ["hat"],
    "capabilities": {},
    "architecture": {},
    "training": {},
    "data": {},
    "metrics": {},
}


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return Registry(storage)


def version(weights: bytes, name: str = "shoes", origin: str = "shipped") -> NewVersion:
    return NewVersion(name=name, weights=weights, samples_png=b"png", origin=origin, card=CARD)


def test_versions_count_up_and_keep_their_weights(registry: Registry) -> None:
    cards = [registry.register(version(weights)) for weights in (b"one", b"two")]
    assert [card.version for card in cards] == [1, 2]
    assert [registry.weights(card) for card in cards] == [b"one", b"two"]
    assert registry.samples(cards[0]) == b"png"
    assert registry.versions("shoes") == cards
    assert registry.names() == ["shoes"]


def test_registering_the_same_again_is_the_same_version(registry: Registry) -> None:
    first = registry.register(version(b"one", origin="job_1"))
    assert registry.register(version(b"one", origin="job_1")) == first
    assert registry.register(version(b"one", origin="job_2")).version == 2


def test_versions_registered_at_once_get_numbers_of_their_own(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        cards = list(pool.map(lambda i: registry.register(version(bytes([i]))), range(8)))
    assert sorted(card.version for card in cards) == list(range(1, 9))


def test_a_bare_name_is_production_or_else_the_newest(registry: Registry) -> None:
    for weights in (b"one", b"two", b"three"):
        registry.register(version(weights))
    assert registry.resolve("shoes").version == 3
    registry.point("shoes", "production", 2)
    registry.point("shoes", "canary", 1)
    assert registry.resolve("shoes").version == 2
    assert registry.resolve("shoes@canary").version == 1
    assert registry.resolve("shoes:3").version == 3
    assert registry.aliases("shoes") == {"production": 2, "canary": 1}


def test_an_alias_remembers_where_it_pointed(registry: Registry, storage: Storage) -> None:
    registry.register(version(b"one"))
    registry.register(version(b"two"))
    for number in (1, 2, 1):
        registry.point("shoes", "production", number)
    assert registry.aliases("shoes") == {"production": 1}
    assert len(list(storage.keys("models/shoes/aliases/production"))) == 3


@pytest.mark.parametrize("reference", ["hats", "shoes:9", "shoes@nowhere"])
def test_what_is_not_there_is_not_found(registry: Registry, reference: str) -> None:
    registry.register(version(b"one"))
    with pytest.raises(ModelNotFound):
        registry.resolve(reference)
    with pytest.raises(ModelNotFound):
        registry.point("shoes", "production", 9)


@pytest.mark.parametrize(
    "reference",
    ["", "../shoes", "http://x/y", "shoes:0", "shoes:1@a", "Shoes", "shoes\n", "a" * 99],
)
def test_a_reference_of_another_form_is_refused(registry: Registry, reference: str) -> None:
    with pytest.raises(InvalidReference):
        registry.resolve(reference)


def test_damaged_weights_are_never_handed_out(registry: Registry, storage: Storage) -> None:
    card = registry.register(version(b"one"))
    key = f"models/shoes/weights/{card.weights_sha256}.safetensors"
    storage.put(key, b"other")
    with pytest.raises(WeightsDamaged, match="damaged"):
        registry.weights(card)
    storage.delete(key)
    with pytest.raises(WeightsDamaged, match="missing"):
        registry.weights(card)


def test_a_shipped_model_that_was_deleted_does_not_come_back(registry: Registry) -> None:
    register_models(registry)
    shipped = registry.resolve("clothing")
    own = registry.register(version(b"own", name="clothing", origin="job_1"))
    registry.point("clothing", "production", own.version)
    registry.delete("clothing", shipped.version)
    register_models(registry)
    assert registry.versions("clothing") == [own]
    assert registry.aliases("clothing") == {"production": own.version}


def test_two_attempts_of_a_job_make_one_version_also_with_other_weights(
    registry: Registry,
) -> None:
    def attempt(number: int) -> ModelCard:
        return registry.register(version(bytes([number]), origin="job_1"))

    with ThreadPoolExecutor(8) as pool:
        cards = list(pool.map(attempt, range(8)))
    assert cards == [cards[0]] * 8
    assert registry.versions("shoes") == [cards[0]]
    assert len(registry.weights(cards[0])) == 1


def test_weights_that_the_store_has_cut_are_not_registered(
    registry: Registry, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = storage.put
    monkeypatch.setattr(storage, "put", lambda key, data: put(key, data[: len(data) // 2]))
    with pytest.raises(StorageError):
        registry.register(version(b"weights"))
    assert registry.names() == []
