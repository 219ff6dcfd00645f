"""Many deadlines on one timer."""

import asyncio

import pytest

from app.deadlines import Deadlines


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at them often."""
    monkeypatch.setattr("app.deadlines.SWEEP_S", 0.01)


def test_what_is_overdue_is_called_once_and_what_was_lifted_never() -> None:
    called: list[str] = []

    async def scene() -> None:
        deadlines = Deadlines()
        deadlines.set(0.03, lambda: called.append("first"))
        deadlines.set(0.12, lambda: called.append("second"))
        lifted = deadlines.set(0.03, lambda: called.append("lifted"))
        deadlines.lift(lifted)
        await asyncio.sleep(0.02)
        assert called == []
        await asyncio.sleep(0.06)
        assert called == ["first"]
        deadlines.lift(lifted)
        await asyncio.sleep(0.1)
        assert called == ["first", "second"]

    asyncio.run(scene())


def test_each_event_loop_is_served_and_only_with_its_own() -> None:
    deadlines = Deadlines()
    called: list[str] = []

    async def scene(name: str) -> None:
        done = asyncio.get_running_loop().create_future()
        deadlines.set(0.02, lambda: done.set_result(None))
        deadlines.set(0.06, lambda: called.append(name))  # is left when this loop ends at once
        async with asyncio.timeout(5):
            await done

    async def longer() -> None:
        await scene("second")
        await asyncio.sleep(0.1)

    asyncio.run(scene("first"))
    asyncio.run(longer())
    assert called == ["second"]


def test_one_that_fails_stops_no_other() -> None:
    failures: list[str] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(str(context["exception"])))
        deadlines = Deadlines()
        done = loop.create_future()
        deadlines.set(0.02, lambda: failures.remove("none"))
        deadlines.set(0.04, lambda: done.set_result(None))
        async with asyncio.timeout(5):
            await done

    asyncio.run(scene())
    assert failures == ["list.remove(x): x not in list"]
