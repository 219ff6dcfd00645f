"""`Idempotency-Key` on synchronous generation: a replay gives the first answer, byte for byte."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from redis import Redis

from models.imaging.pixels import Pixels
from models.inference.engine_onnx import OnnxEngine
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry
from worker.embedded_valkey import EmbeddedValkey
from worker.registry.model_versions import NewVersion
from worker.registry.registry import PRODUCTION, Registry
from worker.storage import Storage

KEY = {"Idempotency-Key": "order-1"}
OPENAI = "/v1/images/generations"
SNEAKERS = {"prompt": "a sneaker", "n": 2}


def send(client: TestClient, body: dict[str, Any], **headers: str) -> Response:
    path = OPENAI if "prompt" in body else "/generate"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, json=body, headers=KEY | names)


@pytest.mark.parametrize(
    ("body", "accept"),
    [
        ({}, "application/json"),
        ({"n": 3, "metadata": {"sku": "A-1", "huge": 10**30}}, "application/json"),
        ({"n": 2, "response_format": "url"}, "application/json"),
        ({"response_format": "url"}, "image/webp"),
        ({"category": "Bag"}, "image/png"),
        ({"n": 3}, "application/zip"),
        (SNEAKERS, "application/json"),
        (SNEAKERS | {"response_format": "url"}, "application/json"),
    ],
)
def test_a_replay_is_the_first_answer(
    client: TestClient, body: dict[str, Any], accept: str
) -> None:
    first = send(client, body, accept=accept)
    assert first.status_code == 200, first.text
    again = send(client, body, accept=accept)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == first.headers["content-type"] == accept
    other = client.post(first.request.url.path, json=body, headers={"Accept": accept})
    assert other.content != first.content


@pytest.mark.parametrize("body", [{"n": 2}, SNEAKERS])
def test_another_request_with_the_key_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert send(client, body).status_code == 200
    answer = send(client, body | {"seed": 1})
    if "prompt" in body:
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            *(400, "idempotency_key_reused"),
        )
    else:
        assert_problem(answer, 422, "idempotency_key_reused")
        # Each form of an answer is another request.
        for other in ({"accept": "application/zip"}, {"prefer": "respond-async"}):
            assert_problem(send(client, body, **other), 422, "idempotency_key_reused")
    assert send(client, body).status_code == 200


def test_the_version_is_that_of_the_first_answer(
    client: TestClient, registry: Registry, tiny_version: NewVersion
) -> None:
    first = send(client, {})
    newer = registry.register(NewVersion(**{**vars(tiny_version), "origin": "job_1"}))
    registry.point(newer.name, PRODUCTION, newer.version)
    client.app.state.services.resolver.forget()  # type: ignore[attr-defined] # of FastAPI
    assert client.post("/generate", json={}).json()["model_version"] == newer.version == 2
    assert send(client, {}).content == first.content
    registry.delete(newer.name, 1)
    client.app.state.services.resolver.forget()  # type: ignore[attr-defined] # of FastAPI
    assert_problem(send(client, {}), 404, "model_not_found")


def test_what_failed_is_done_anew(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Pixels:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEngine, "__call__", broken)
        assert_problem(send(client, {}), 500, "internal_error")
    assert_problem(send(client, {"category": "Hat"}), 422, "unknown_category")
    assert send(client, {"category": "Bag"}).status_code == 200


def test_of_many_at_once_one_is_answered_and_the_others_are_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()
    hold(monkeypatch, begun, finish)
    with ThreadPoolExecutor(9) as pool:
        running = pool.submit(send, client, {})
        assert begun.wait(10)
        for answer in pool.map(lambda _: send(client, {}), range(8)):
            assert_problem(answer, 409, "idempotency_in_flight")
            assert int(answer.headers["retry-after"]) > 0
        finish.set()
        first = running.result()
    assert first.status_code == 200
    assert {send(client, {}).content for _ in range(3)} == {first.content}


def hold(monkeypatch: pytest.MonkeyPatch, begun: threading.Event, finish: threading.Event) -> None:
    """Let forward passes wait for `finish`."""
    compute: Callable[..., Pixels] = OnnxEngine.__call__

    def held(*arguments: object) -> Pixels:
        begun.set()
        assert finish.wait(30)
        return compute(*arguments)

    monkeypatch.setattr(OnnxEngine, "__call__", held)


def test_of_two_that_redis_did_not_tell_apart_one_answer_is_kept(
    client: TestClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()
    hold(monkeypatch, begun, finish)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send, client, {})
        assert begun.wait(10)
        redis.flushall()
        second = pool.submit(send, client, {})
        time.sleep(0.5)
        finish.set()
        answers = {each.result().content for each in (first, second)}
    assert len(answers) == 1


def test_without_redis_it_is_refused_soon(serve: Serve, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        client = serve(redis_url=valkey.url)
        first = send(client, {})
    began = time.monotonic()
    other = client.post("/generate", json={}, headers={"Idempotency-Key": "order-2"})
    assert_problem(other, 503, "redis_unavailable")
    assert time.monotonic() - began < 2
    assert send(client, {}).content == first.content
    assert client.post("/generate", json={}).status_code == 200


def test_keys_of_other_clients_and_doors_are_other_keys(serve: Serve, storage: Storage) -> None:
    client = serve(api_key_hashes=f"{entry('generate', 'a')},{entry('generate', 'b')}")
    sent = [
        client.post(path, json=body, headers=KEY | bearer(who))
        for path, body in (("/generate", {}), (OPENAI, SNEAKERS))
        for who in ("a", "b")
    ]
    assert {answer.status_code for answer in sent} == {200}
    assert len(list(storage.keys("idempotency"))) == 4


@pytest.mark.parametrize("key", ["", "a b", "k" * 256])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str) -> None:
    answer = client.post("/generate", json={}, headers={"Idempotency-Key": key})
    assert_problem(answer, 422, "invalid_request")


def test_images_are_not_kept(client: TestClient, storage: Storage) -> None:
    send(client, {"n": 64})
    (size,) = storage.sizes("idempotency").values()
    assert size < 1000
