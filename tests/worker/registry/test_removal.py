"""Deletion of aliases and of whole models, against everything that may need them."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest

from tests.worker.registry.test_registry import version
from worker.queue.queue import JobQueue
from worker.queue.reconciler import reconcile_in_turn
from worker.registry.aliases import AliasChanged, NothingToRollBack
from worker.registry.bundled_models import register_models
from worker.registry.deletions import Deletion, Deletions
from worker.registry.registry import ModelNotFound, Registry
from worker.registry.removal import ModelInUse, VersionInUse
from worker.schemas.requests import GenerateJob, JobRequest, TrainJob
from worker.storage import Storage

ROUNDS = 25
TRAIN = TrainJob(dataset="ds_00000000000000sample", model="shoes")
GENERATE = GenerateJob(model="shoes:1", n=1, seed=0)


@pytest.fixture
def registry(storage: Storage) -> Registry:
    return Registry(storage)


@pytest.fixture
def shoes(registry: Registry) -> Registry:
    """A model with two versions, both of which `production` has pointed to."""
    for number in (1, 2):
        registry.register(version(bytes([number]), origin=f"job_{number:020d}"))
        registry.point("shoes", "production", number)
    return registry


def kept(registry: Registry) -> list[str]:
    """What is left of the model, besides what keeps its numbers taken."""
    keys = registry.storage.keys("models/shoes")
    return [key for key in keys if not re.search(r"/deletions/|/deleted\.json$", key)]


def test_a_deleted_alias_points_nowhere_and_a_rollback_sets_it_again(shoes: Registry) -> None:
    shoes.delete_alias("shoes", "production")
    assert shoes.aliases("shoes") == {}
    for act in (shoes.delete_alias, lambda name, alias: shoes.resolve(f"{name}@{alias}")):
        with pytest.raises(ModelNotFound):
            act("shoes", "production")
    assert [change.version for change in shoes.history("shoes", "production")] == [1, 2, None]
    assert shoes.roll_back("shoes", "production").version == 2
    assert shoes.roll_back("shoes", "production").version == 1
    with pytest.raises(NothingToRollBack):
        shoes.roll_back("shoes", "production")


def test_an_alias_that_is_none_cannot_be_deleted(shoes: Registry) -> None:
    for name, alias in (("shoes", "none"), ("none", "production")):
        with pytest.raises(ModelNotFound):
            shoes.delete_alias(name, alias)


def test_a_version_whose_alias_was_deleted_can_be_deleted(shoes: Registry) -> None:
    with pytest.raises(VersionInUse):
        shoes.delete("shoes", 2)
    shoes.delete_alias("shoes", "production")
    shoes.delete("shoes", 2)
    assert shoes.roll_back("shoes", "production").version == 1


def test_a_damaged_alias_can_be_deleted(shoes: Registry) -> None:
    shoes.storage.put("models/shoes/aliases/production/00000003.json", b"{")
    shoes.delete_alias("shoes", "production")
    assert shoes.resolve("shoes").version == 2


def test_an_alias_is_not_deleted_where_it_was_changed_meanwhile(shoes: Registry) -> None:
    def change(number: int) -> bool:
        shoes.point("shoes", "production", 1)
        return number in (1, 2)

    with pytest.raises(AliasChanged):
        shoes.pointers.delete("shoes", "production", change)
    assert shoes.aliases("shoes") == {"production": 1}


def test_a_deleted_model_is_gone_with_its_aliases_their_history_and_its_files(
    shoes: Registry,
) -> None:
    shoes.delete_model("shoes")
    assert shoes.names() == []
    for act in (shoes.delete_model, shoes.resolve, lambda name: shoes.history(name, "production")):
        with pytest.raises(ModelNotFound):
            act("shoes")
    # The last number of an alias stays taken, as that of a version does.
    assert kept(shoes) == ["models/shoes/aliases/production/00000003.json"]


def test_a_model_made_anew_has_new_numbers_and_no_old_history(shoes: Registry) -> None:
    shoes.delete_model("shoes")
    made = shoes.register(version(b"new", origin="job_9"))
    assert made.version == 3
    assert shoes.aliases("shoes") == {}
    shoes.point("shoes", "production", 3)
    assert [change.version for change in shoes.history("shoes", "production")] == [None, 3]
    shoes.delete_model("shoes")
    assert shoes.names() == []


def test_a_model_with_a_damaged_card_can_be_deleted(shoes: Registry) -> None:
    shoes.storage.put("models/shoes/versions/1/card.json", b"{")
    shoes.delete_model("shoes")
    assert len(kept(shoes)) == 1
    assert shoes.register(version(b"new")).version == 3


@pytest.mark.parametrize(
    ("job", "reason"), [(TRAIN, "trains 'shoes'"), (GENERATE, "generates with 'shoes'")]
)
def test_a_model_that_a_job_needs_is_not_deleted(
    shoes: Registry, jobs: JobQueue, job: JobRequest, reason: str
) -> None:
    record = jobs.submit("train" if job is TRAIN else "generate", job)
    with pytest.raises(ModelInUse, match=f"{record.id} {reason}; cancel it"):
        shoes.delete_model("shoes")
    assert shoes.aliases("shoes") == {"production": 2}
    jobs.cancel(record.id)
    shoes.delete_model("shoes")


def test_a_version_that_a_job_needs_is_not_deleted(shoes: Registry, jobs: JobQueue) -> None:
    record = jobs.submit("generate", GENERATE)
    with pytest.raises(VersionInUse, match=record.id):
        shoes.delete("shoes", 1)
    jobs.cancel(record.id)
    shoes.delete("shoes", 1)


def test_a_job_submitted_while_a_model_is_being_deleted_refuses_that(shoes: Registry) -> None:
    deletions = Deletions(shoes.storage, "shoes", None)
    begun = deletions.begin(shoes.removals._everything("shoes"))
    shoes.keep("shoes", 1)  # after it was submitted
    assert not deletions.decide(begun, "done")
    assert not shoes.removals.finish("shoes")
    assert shoes.resolve("shoes").version == 2


def test_a_job_submitted_just_before_a_deletion_begins_is_seen(
    shoes: Registry, jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Deletions.begin

    def late(deletions: Deletions, deletion: Deletion | None = None) -> int:
        submit(jobs, shoes, 1)
        return begin(deletions, deletion)

    monkeypatch.setattr(Deletions, "begin", late)
    with pytest.raises(ModelInUse, match="generates with"):
        shoes.delete_model("shoes")
    with pytest.raises(VersionInUse):
        shoes.delete("shoes", 1)
    shoes.keep("shoes", 1)
    assert shoes.cards.existing("shoes") == {1, 2}


def test_what_is_taken_into_use_after_a_model_was_deleted_is_told(shoes: Registry) -> None:
    deletions = Deletions(shoes.storage, "shoes", None)
    assert deletions.decide(deletions.begin(shoes.removals._everything("shoes")), "done")
    with pytest.raises(ModelNotFound, match="just deleted"):
        shoes.keep("shoes", 1)
    with pytest.raises(ModelNotFound, match="just deleted"):
        shoes.point("shoes", "canary", 2)
    assert (shoes.aliases("shoes"), shoes.names()) == ({}, [])


@pytest.mark.parametrize("step", range(10))
def test_a_deletion_that_a_crash_has_broken_off_is_finished(
    shoes: Registry, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """By the second call, wherever the first one stopped; meanwhile lists show what works."""
    steps = iter(range(step))
    delete = shoes.storage.delete

    class Died(BaseException):
        pass

    def dying(key: str) -> None:
        if next(steps, None) is None:
            raise Died
        delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(shoes.storage, "delete", dying)
        with pytest.raises(Died):
            shoes.delete_model("shoes")
    for card in shoes.versions("shoes"):
        shoes.weights(card)
    assert all(
        number in shoes.cards.existing("shoes") for number in shoes.aliases("shoes").values()
    )
    shoes.delete_model("shoes")
    assert len(kept(shoes)) == 1
    assert shoes.names() == []


def test_the_reconciler_finishes_a_deletion_and_touches_nothing_newer(
    shoes: Registry, jobs: JobQueue
) -> None:
    deletions = Deletions(shoes.storage, "shoes", None)
    assert deletions.decide(deletions.begin(shoes.removals._everything("shoes")), "done")
    new = shoes.cards.readable("shoes")[1].model_copy(update={"version": 3, "origin": "job_9"})
    shoes.cards.create(new)  # with the same weights as a deleted one
    shoes.pointers.point("shoes", "canary", 3)
    reconcile_in_turn(jobs)
    assert shoes.versions("shoes") == [new]
    assert shoes.weights(new) == bytes([2])
    assert shoes.aliases("shoes") == {"canary": 3}
    assert not shoes.removals.finish("shoes")


@pytest.mark.parametrize("rival", ["alias", "job", "registration", "deletion"])
def test_of_a_model_s_deletion_and_its_rival_one_wins_or_both_in_turn(
    registry: Registry, jobs: JobQueue, rival: str
) -> None:
    """Races; nothing points at nothing, and no accepted job lacks its version."""
    won = Counter[tuple[bool, bool]]()
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            made = registry.register(version(b"%d" % number, origin=f"job_a{number}")).version
            new = version(b"new %d" % number, origin=f"job_b{number}")
            rivals: dict[str, Callable[[], object]] = {
                "alias": partial(registry.point, "shoes", "production", made),
                "job": partial(submit, jobs, registry, made),
                "registration": partial(registry.register, new),
                "deletion": partial(registry.delete_model, "shoes"),
            }
            start = Barrier(2)
            acting = pool.submit(attempt, start, rivals[rival])
            deleting = pool.submit(attempt, start, rivals["deletion"])
            acted, deleted = acting.result(), deleting.result()
            won[acted, deleted] += 1
            existing = registry.cards.existing("shoes")
            assert (made in existing) != deleted
            assert acted != deleted or rival != "job"
            for card in registry.versions("shoes"):
                registry.weights(card)
            assert set(registry.aliases("shoes").values()) <= existing
            assert acted or deleted
            for record in jobs.ledger.active():
                jobs.cancel(record.id)
            if existing:
                registry.delete_model("shoes")
    assert sum(won.values()) == ROUNDS


def submit(jobs: JobQueue, registry: Registry, made: int) -> None:
    """As the API does."""
    jobs.submit("generate", GenerateJob(model=f"shoes:{made}", n=1, seed=0))
    registry.keep("shoes", made)


def attempt(start: Barrier, act: Callable[[], object]) -> bool:
    """Whether it succeeded; a refusal is one of those that clients get."""
    start.wait()
    try:
        act()
    except (ModelNotFound, ModelInUse):
        return False
    return True


def test_of_an_alias_s_change_and_its_deletion_the_last_one_counts(shoes: Registry) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            shoes.point("shoes", "production", 1 + number % 2)
            start = Barrier(2)

            def delete(start: Barrier = start) -> bool:
                start.wait()
                try:
                    shoes.delete_alias("shoes", "production")
                except AliasChanged:
                    return False
                return True

            deleting = pool.submit(delete)
            start.wait()
            shoes.point("shoes", "production", 2 - number % 2)
            deleted = deleting.result()
            last = shoes.history("shoes", "production")[-1].version
            assert shoes.aliases("shoes").get("production") == last
            assert deleted or last == 2 - number % 2


def test_a_deleted_shipped_model_does_not_come_back_also_with_new_weights(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_models(registry)
    registry.delete_model("clothing")
    register_models(registry)
    assert "clothing" not in registry.names()
    monkeypatch.setattr(type(registry.cards), "deleted", lambda *_: iter(()))  # of another release
    register_models(registry)
    assert registry.names() == ["fashion-mnist"]
    assert registry.register(version(b"own", name="clothing")).version == 2


def test_a_shipped_model_s_alias_that_was_deleted_is_not_set_again(registry: Registry) -> None:
    register_models(registry)
    registry.delete_alias("clothing", "production")
    register_models(registry)
    assert registry.aliases("clothing") == {}


def test_a_damaged_deletion_stops_neither_a_start_nor_a_loop(
    registry: Registry, jobs: JobQueue
) -> None:
    register_models(registry)
    registry.storage.put("models/clothing/deletions/model/000001.json", b"{")
    registry.removals.finish_all()
    register_models(registry)
    registry.register(version(b"own", name="clothing"))
    reconcile_in_turn(jobs)
    assert len(registry.versions("clothing")) == 2
