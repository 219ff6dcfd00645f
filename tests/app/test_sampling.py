"""What befalls generate requests: bad weights, no memory, too many at once."""

import threading
import time

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.sampling import Sampler
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from worker.registry import Registry


def sampler_of(client: TestClient) -> Sampler:
    assert isinstance(client.app, FastAPI)
    sampler: Sampler = client.app.state.sampler
    return sampler


def test_bad_weights_are_put_into_quarantine_and_read_again_later(
    client: TestClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.resolve("fashion-mnist")
    key = f"models/{card.name}/weights/{card.weights_sha256}.safetensors"
    sound = registry.storage.read(key)
    registry.storage.put(key, b"bad")
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    registry.storage.put(key, sound)
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    monkeypatch.setattr("app.sampling.QUARANTINE_S", 0.0)
    sampler_of(client)._bad.clear()
    registry.storage.put(key, b"bad")
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    registry.storage.put(key, sound)
    assert client.post("/generate", json={}).status_code == 200


def test_a_device_without_memory_fails_one_request_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("app.sampling.sample", exhausted)
    response = client.post("/generate", json={"n": 64})
    assert_problem(response, 503, "out_of_memory")
    assert int(response.headers["retry-after"]) > 0
    monkeypatch.undo()
    assert client.post("/generate", json={"n": 64}).status_code == 200


def test_who_comes_when_the_queue_is_full_is_sent_away(serve: Serve) -> None:
    client = serve(max_queue=1)
    sampler = sampler_of(client)
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post("/generate", json={}).status_code)

    with sampler._lane:  # as a long forward pass would hold it
        waiting = threading.Thread(target=ask)
        waiting.start()
        deadline = time.monotonic() + 10
        while sampler._places._value > 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        response = client.post("/generate", json={})
    waiting.join()
    assert_problem(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) > 0
    assert answers == [200]
