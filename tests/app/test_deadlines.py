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


def test_each_event_loop_is_served() -> None:
    deadlines = Deadlines()

    async def scene() -> None:
        done = asyncio.get_running_loop().create_future()
        deadlines.set(0.02, lambda: done.set_result(None))
        deadlines.set(60, lambda: None)  # is left when this loop ends
        async with asyncio.timeout(5):
            await done

    asyncio.run(scene())
    asyncio.run(scene())
