"""python -m app.keys, and what the keys it makes open over HTTP."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.keys import entry, main
from app.main import create_app
from tests.app.conftest import disconnect
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer
from tests.service import free_port
from worker.registry.registry import Registry
from worker.settings import Settings

Listen = Callable[[str], httpx.Client]


def today() -> date:
    """Read anew by each test: a run may last past midnight."""
    return datetime.now(UTC).date()


@contextmanager
def listening(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the app behind a real server."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client
    server.should_exit = True
    thread.join()


@pytest.fixture
def listen(settings: Settings, registry: Registry) -> Iterator[Listen]:  # noqa: ARG001
    """Serves with the keys given."""
    with ExitStack() as stack:

        def start(api_key_hashes: str) -> httpx.Client:
            changes = {"api_key_hashes": api_key_hashes, "allowed_hosts": ""}
            app = create_app(settings.model_copy(update=changes))
            stack.callback(disconnect, app)
            return stack.enter_context(listening(app))

        yield start


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """A new key and its entry."""
    main(arguments)
    (key,), (made_entry,) = (
        re.findall(rf"^{word} +(\S+)$", said, flags=re.MULTILINE)
        for said in [capsys.readouterr().out]
        for word in ("key", "entry")
    )
    return key, made_entry


def test_a_new_key_opens_what_it_was_made_for(
    capsys: pytest.CaptureFixture[str], listen: Listen
) -> None:
    shop, shop_entry = made(capsys, "--scope", "generate", "--expires", today().isoformat())
    owner, owner_entry = made(capsys, "--scope", "generate", "--scope", "manage")
    assert re.fullmatch(r"vk_[A-Za-z0-9_-]{43}", shop)
    assert shop != owner
    assert shop not in shop_entry
    client = listen(f"{shop_entry}, {owner_entry}")
    assert client.post("/generate", json={}, headers=bearer(shop)).status_code == 200
    assert_problem(client.get("/jobs", headers=bearer(shop)), 403, "forbidden")
    assert client.get("/jobs", headers=bearer(owner)).status_code == 200
    assert_problem(client.get("/jobs", headers=bearer(owner[:-1])), 401, "unauthorized")


def test_an_expired_key_is_as_good_as_none(listen: Listen) -> None:
    yesterday = today() - timedelta(days=1)
    client = listen(entry("vk_old", ["generate", "manage"], yesterday))
    answers = [client.get("/jobs", headers=bearer(key)) for key in ("vk_old", "vk_wrong")]
    bodies = [assert_problem(answer, 401, "unauthorized") for answer in answers]
    for body in bodies:
        body.pop("request_id")
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--scope", "admin"],
        ["--scope", "generate", "--expires", "tomorrow"],
        ["--scope", "generate", "--expires", "2027-02-30"],
    ],
    ids=str,
)
def test_a_key_that_cannot_be_made_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "vk_" not in capsys.readouterr().out


def test_help_says_what_the_scopes_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "VITRINE_API_KEY_HASHES" in said
    assert all(f"\n  {scope}" in said for scope in ("generate", "manage", "metrics"))
