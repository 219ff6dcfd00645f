"""Model references: resolution, and its short-lived cache."""

import asyncio

import pytest

from app.generation.model_resolver import ModelResolver
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import PRODUCTION, ModelNotFound, Registry

NAME = "fashion-mnist"


@pytest.fixture
def second(registry: Registry, tiny_version: NewVersion) -> int:
    """A second version of the model, whose first one is in production."""
    new = NewVersion(**{**vars(tiny_version), "origin": "job_00000000000000000000"})
    return registry.register(new).version


def test_what_another_process_changes_is_followed_after_a_moment(
    registry: Registry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = ModelResolver(registry, NAME)

    def found() -> int:
        return asyncio.run(resolver.find(None)).version

    assert found() == 1
    registry.point(NAME, PRODUCTION, second)
    assert found() == 1
    assert resolver.resolve(None).version == second
    monkeypatch.setattr("app.generation.model_resolver.REMEMBERED_S", 0.0)
    registry.point(NAME, PRODUCTION, 1)
    resolver.resolve(None)
    registry.point(NAME, PRODUCTION, second)
    assert found() == second


def test_what_is_forgotten_is_asked_for_again(registry: Registry, second: int) -> None:
    resolver = ModelResolver(registry, NAME)
    assert asyncio.run(resolver.find(f"{NAME}@{PRODUCTION}")).version == 1
    registry.point(NAME, PRODUCTION, second)
    resolver.forget()
    assert asyncio.run(resolver.find(f"{NAME}@{PRODUCTION}")).version == second


def test_what_is_not_there_is_not_remembered(registry: Registry, tiny_version: NewVersion) -> None:
    resolver = ModelResolver(registry, NAME)
    with pytest.raises(ModelNotFound):
        asyncio.run(resolver.find("bags"))
    registry.register(NewVersion(**{**vars(tiny_version), "name": "bags"}))
    assert asyncio.run(resolver.find("bags")).name == "bags"


def test_many_who_ask_at_once_are_one_question(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(registry, monkeypatch)

    async def scene() -> None:
        resolver = ModelResolver(registry, NAME)
        cards = await asyncio.gather(*(resolver.find(None) for _ in range(50)))
        assert {card.version for card in cards} == {1}

    asyncio.run(scene())
    assert asked == [NAME]


def test_nobody_waits_for_a_reference_that_is_in_use(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(registry, monkeypatch)
    monkeypatch.setattr("app.generation.model_resolver.REFRESH_BEFORE_EXPIRY_S", 60.0)
    monkeypatch.setattr("app.generation.model_resolver.REMEMBERED_S", 30.0)

    async def scene() -> None:
        resolver = ModelResolver(registry, NAME)
        await resolver.find(None)
        for _ in range(3):
            found = resolver.find(None)
            with pytest.raises(StopIteration):  # at once: it does not wait
                found.send(None)
        async with asyncio.timeout(10):
            while len(asked) < 2:
                await asyncio.sleep(0.01)

    asyncio.run(scene())
    assert asked == [NAME, NAME]


def test_an_answer_from_before_a_change_is_not_remembered(
    registry: Registry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = ModelResolver(registry, NAME)
    resolve = registry.resolve

    def slow(reference: str) -> ModelCard:
        card = resolve(reference)
        registry.point(NAME, PRODUCTION, second)
        resolver.forget()
        return card

    monkeypatch.setattr(registry, "resolve", slow)
    assert asyncio.run(resolver.find(None)).version == 1
    monkeypatch.setattr(registry, "resolve", resolve)
    assert asyncio.run(resolver.find(None)).version == second


def test_who_leaves_takes_no_answer_from_the_others(registry: Registry) -> None:
    async def scene() -> None:
        resolver = ModelResolver(registry, NAME)
        first, other = (asyncio.ensure_future(resolver.find(None)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await other).version == 1

    asyncio.run(scene())


def counted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The references that the registry resolves from now on."""
    asked: list[str] = []
    resolve = registry.resolve

    def counting(reference: str) -> ModelCard:
        asked.append(reference)
        return resolve(reference)

    monkeypatch.setattr(registry, "resolve", counting)
    return asked
