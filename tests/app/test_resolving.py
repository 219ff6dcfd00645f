"""References, remembered for a moment."""

import asyncio

import pytest

from app.resolving import Resolver
from worker.model_versions import NewVersion
from worker.registry import PRODUCTION, ModelNotFound, Registry

NAME = "fashion-mnist"


@pytest.fixture
def second(registry: Registry, tiny_version: NewVersion) -> int:
    """Another version of the model in production, which is the first."""
    new = NewVersion(**{**vars(tiny_version), "origin": "job_00000000000000000000"})
    return registry.register(new).version


def test_what_another_process_changes_is_followed_after_a_moment(
    registry: Registry, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(registry, NAME)

    def found() -> int:
        return asyncio.run(resolver.find(None)).version

    assert found() == 1
    registry.point(NAME, PRODUCTION, second)
    assert found() == 1
    assert resolver.resolve(None).version == second
    monkeypatch.setattr("app.resolving.REMEMBERED_S", 0.0)
    registry.point(NAME, PRODUCTION, 1)
    resolver.resolve(None)
    registry.point(NAME, PRODUCTION, second)
    assert found() == second


def test_what_is_forgotten_is_asked_for_again(registry: Registry, second: int) -> None:
    resolver = Resolver(registry, NAME)
    assert asyncio.run(resolver.find(f"{NAME}@{PRODUCTION}")).version == 1
    registry.point(NAME, PRODUCTION, second)
    resolver.forget()
    assert asyncio.run(resolver.find(f"{NAME}@{PRODUCTION}")).version == second


def test_what_is_not_there_is_not_remembered(registry: Registry, tiny_version: NewVersion) -> None:
    resolver = Resolver(registry, NAME)
    with pytest.raises(ModelNotFound):
        asyncio.run(resolver.find("bags"))
    registry.register(NewVersion(**{**vars(tiny_version), "name": "bags"}))
    assert asyncio.run(resolver.find("bags")).name == "bags"
