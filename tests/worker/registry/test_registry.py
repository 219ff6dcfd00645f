"""Model versions and aliases."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pydantic import JsonValue

from worker.registry.bundled_models import register_models
from worker.registry.deletions import Deletions
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import (
    SHIPPED,
    InvalidReference,
    ModelNotFound,
    Registry,
    WeightsDamaged,
)
from worker.registry.removal import VersionInUse
from worker.revision_chain import RecordDamaged
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


ROUNDS = 50


def test_of_an_alias_and_the_deletion_of_its_version_one_wins(registry: Registry) -> None:
    """Fifty races, begun a little earlier by one or the other side."""
    won = Counter[str]()
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            made = registry.register(version(bytes([number]), origin=f"job_{number}")).version
            start = Barrier(2)
            pointing = pool.submit(attempt, start, registry.point, "shoes", "production", made)
            deleting = pool.submit(attempt, start, registry.delete, "shoes", made)
            pointed, deleted = pointing.result(), deleting.result()
            assert pointed != deleted
            won["alias" if pointed else "deletion"] += 1
            assert (made in registry.cards.existing("shoes")) == pointed
            assert (registry.aliases("shoes").get("production") == made) == pointed
            if "production" in registry.aliases("shoes"):
                registry.weights(registry.resolve("shoes@production"))
    assert sum(won.values()) == ROUNDS


def attempt(start: Barrier, act: Callable[..., object], *arguments: object) -> bool:
    """Whether it succeeded; a refusal is one of those that clients get."""
    start.wait()
    try:
        act(*arguments)
    except (ModelNotFound, VersionInUse):
        return False
    return True


def test_a_deletion_and_an_alias_that_see_each_other_are_decided_once(registry: Registry) -> None:
    made = registry.register(version(b"one")).version
    begun = Deletions(registry.storage, "shoes", made).begin()
    registry.point("shoes", "production", made)  # while a deletion is under way: it refuses that
    assert not Deletions(registry.storage, "shoes", made).decide(begun, "done")
    with pytest.raises(VersionInUse):
        registry.delete("shoes", made)
    assert registry.resolve("shoes@production").version == made


def test_an_alias_that_lost_against_a_deletion_is_where_it_was(registry: Registry) -> None:
    for weights in (b"one", b"two", b"three"):
        registry.register(version(weights))
    registry.point("shoes", "production", 1)
    registry.point("shoes", "production", 2)
    deletions = Deletions(registry.storage, "shoes", 3)
    assert deletions.decide(deletions.begin(), "done")
    with pytest.raises(ModelNotFound, match="deleted"):
        registry.point("shoes", "production", 3)
    assert registry.cards.existing("shoes") == {1, 2}  # what a dead process left is removed
    assert registry.aliases("shoes") == {"production": 2}
    assert registry.resolve("shoes").version == 2
    registry.roll_back("shoes", "production")
    assert registry.aliases("shoes") == {"production": 1}


def test_a_version_that_was_in_use_can_be_deleted_later(registry: Registry) -> None:
    for weights in (b"one", b"two"):
        registry.register(version(weights))
    registry.point("shoes", "production", 1)
    with pytest.raises(VersionInUse):
        registry.delete("shoes", 1)
    registry.point("shoes", "production", 2)
    registry.delete("shoes", 1)
    assert registry.names() == ["shoes"]
    assert [card.version for card in registry.versions("shoes")] == [2]


@pytest.mark.parametrize("left", [b"", b'{"name":'])
def test_a_service_with_a_damaged_shipped_model_starts(
    registry: Registry, storage: Storage, left: bytes
) -> None:
    register_models(registry)
    own = registry.register(version(b"own", name="clothing", origin="job_1"))
    registry.point("clothing", "production", own.version)
    for key in (
        "models/clothing/aliases/production/00000002.json",
        "models/fashion-mnist/versions/1/card.json",
        "models/clothing/versions/9/deleted.json",
    ):
        storage.put(key, left)
    register_models(registry)
    with pytest.raises(RecordDamaged):  # and not the shipped version in its place
        registry.resolve("clothing@production")
    assert registry.resolve("fashion-mnist:2").origin == SHIPPED


@pytest.mark.parametrize("left", [b"", b'{"name":'])
def test_a_damaged_record_of_a_job_s_first_attempt_is_replaced(
    registry: Registry, storage: Storage, left: bytes
) -> None:
    storage.put("models/shoes/origins/job_1.json", left)
    assert registry.register(version(b"one", origin="job_1")).version == 1
    assert registry.register(version(b"other", origin="job_1")).version == 1
