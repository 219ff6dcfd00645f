"""Failures of generate requests: bad weights, no memory, a full queue, disconnected clients."""

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.generation.engine_cache import MEMORY_FACTOR, EngineCache
from app.generation.sampler import Sampler
from models.card import Json
from models.checkpoint import save_model
from models.inference.engine_onnx import OnnxEngine
from models.networks.gan import GanConfig, Generator
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import Registry


def engines_of(client: TestClient) -> EngineCache:
    assert isinstance(client.app, FastAPI)
    sampler: Sampler = client.app.state.services.sampler
    return sampler.engines


def forget(client: TestClient) -> None:
    engines_of(client)._warm.clear()


def test_bad_weights_are_put_into_quarantine_and_read_again_later(
    client: TestClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.resolve("fashion-mnist")
    key = f"models/{card.name}/weights/{card.weights_sha256}.safetensors"
    sound = registry.storage.read(key)
    forget(client)
    registry.storage.put(key, b"bad")
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    registry.storage.put(key, sound)
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    monkeypatch.setattr("app.generation.engine_cache.QUARANTINE_S", 0.0)
    engines_of(client)._bad.clear()
    registry.storage.put(key, b"bad")
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")
    registry.storage.put(key, sound)
    assert client.post("/generate", json={}).status_code == 200


def test_the_default_model_is_warm_before_the_first_request(
    client: TestClient, registry: Registry
) -> None:
    assert engines_of(client).find(registry.resolve("fashion-mnist")) is not None


def test_a_device_without_memory_fails_one_request_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(OnnxEngine, "__call__", exhausted)
    response = client.post("/generate", json={"n": 64})
    assert_problem(response, 503, "out_of_memory")
    assert int(response.headers["retry-after"]) > 0
    monkeypatch.undo()
    assert client.post("/generate", json={"n": 64}).status_code == 200


def test_who_comes_when_the_queue_is_full_is_sent_away(serve: Serve) -> None:
    client = serve(max_queue=63)
    response = client.post("/generate", json={"n": 64})
    assert_problem(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) > 0
    assert client.post("/generate", json={"n": 63}).status_code == 200


def other_version(registry: Registry, name: str) -> ModelCard:
    torch.manual_seed(0)
    config = GanConfig(resolution=28, categories=2, z_dim=4, generator_width=4)
    weights = save_model(Generator(config).eval(), ("a", "b"))
    facts: dict[str, Json] = {
        "architecture": {},
        "training": {},
        "data": {},
        "metrics": {},
        "capabilities": {},
    }
    new = NewVersion(
        name=name, weights=weights, samples_png=b"", origin="shipped",
        card={"categories": ["a", "b"], **facts},
    )  # fmt: skip
    return registry.register(new)


def test_the_model_longest_unused_leaves_memory(registry: Registry) -> None:
    first, second, third = (other_version(registry, name) for name in ("one", "two", "three"))
    size = MEMORY_FACTOR * first.weights_bytes
    engines = EngineCache(registry, max_bytes=2 * size)
    for card in (first, second, first, third):
        engines.open(card)
    assert [engines.find(card) is not None for card in (first, second, third)] == [
        True,
        False,
        True,
    ]


def test_a_model_larger_than_the_bound_is_served_alone(registry: Registry) -> None:
    first, second = (other_version(registry, name) for name in ("one", "two"))
    engines = EngineCache(registry, max_bytes=1)
    engines.open(first)
    engines.open(second)
    assert engines.find(first) is None
    assert engines.find(second) is not None
