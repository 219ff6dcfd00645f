"""Keys and scopes, which are checked before a byte of the body is read."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.allowed_methods import routes_of
from app.middleware.key_check import rules_of
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import OPEN, bearer, entry
from tests.processes import open_temporary_files, resident_bytes
from tests.wire import connect, listening, received, status, statuses

MIB = 2**20
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=cut"}
FIELD = b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * (MIB - 100) + b"\r\n"
FILE = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
WORST = [
    ("/jobs/train", JSON, b"[" + b"{}," * (MIB // 3 - 1) + b"{}]"),
    ("/datasets", FORM, FIELD * 20),
    ("/datasets", FORM, FILE + bytes(20 * MIB)),
]


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    """A service with a key for each scope."""
    scopes = {"shop-key": "generate", "owner-key": "manage"}
    return serve(api_key_hashes=",".join(entry(scope, key) for key, scope in scopes.items()))


@pytest.fixture
def port(guarded: TestClient) -> Iterator[int]:
    """The port of the same service as a real server."""
    with listening(guarded.app) as port:
        yield port


def head_of(path: str, headers: dict[str, str], length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: testserver", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(("key", "code"), [("none", 401), ("shop-key", 403)])
@pytest.mark.parametrize(("path", "form"), [("/jobs/train", JSON), ("/datasets", FORM)])
def test_a_key_is_checked_by_the_head_alone(
    port: int, path: str, form: dict[str, str], key: str, code: int
) -> None:
    headers = {**form, **bearer(key), "Expect": "100-continue"}
    with connect(port) as wire:
        wire.sendall(head_of(path, headers, 1000))
        answer, closed = received(wire, quiet_s=2)
        assert (statuses(answer), closed) == ([code], True)


def test_the_worst_bodies_without_a_key_neither_stop_nor_fill_the_service(port: int) -> None:
    url = f"http://127.0.0.1:{port}/health/live"
    files, before, slowest = open_temporary_files(), resident_bytes("self"), 0.0
    attacks = [threading.Thread(target=attack, args=(port, *WORST[n % 3])) for n in range(10)]
    with httpx.Client() as client:
        client.get(url)
        for thread in attacks:
            thread.start()
        while any(thread.is_alive() for thread in attacks):
            began = time.monotonic()
            assert client.get(url).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.2
    assert resident_bytes("self") - before < 20 * MIB
    assert open_temporary_files() == files


def attack(port: int, path: str, headers: dict[str, str], body: bytes) -> None:
    """Send a body ten times, each until the server has closed the connection."""
    for _ in range(10):
        with connect(port) as wire, suppress(ConnectionError):
            wire.sendall(head_of(path, headers, len(body)))
            wire.sendall(body)
            assert status(wire) == 401


def test_a_request_that_no_route_takes_needs_no_key(guarded: TestClient) -> None:
    assert_problem(guarded.post("/nowhere", json={}), 404, "not_found")
    assert_problem(guarded.put("/generate", json={}), 405, "method_not_allowed")


def test_each_route_names_its_scopes_once(guarded: TestClient) -> None:
    assert isinstance(guarded.app, FastAPI)
    for route in routes_of(guarded.app):
        assert route.path is not None
        if route.path != "/" and not route.path.startswith(OPEN):
            assert len(list(rules_of(route.dependant))) == 1, route.path


def test_a_key_for_managing_alone_changes_models(guarded: TestClient) -> None:
    owner = bearer("owner-key")
    alias = "/models/fashion-mnist/aliases"
    assert guarded.put(f"{alias}/a", json={"version": 1}, headers=owner).status_code == 200
    answer = guarded.post(f"{alias}/a/rollback", headers=owner)
    assert_problem(answer, 409, "nothing_to_roll_back")
    answer = guarded.delete("/models/fashion-mnist/versions/1", headers=owner)
    assert_problem(answer, 409, "version_in_use")
    assert_problem(guarded.get("/models", headers=owner), 403, "forbidden")
