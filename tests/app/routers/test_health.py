"""Health checks: readiness, and the names of what is missing."""

import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from worker.embedded_valkey import EmbeddedValkey
from worker.queue.queue import JobQueue
from worker.queue.queue_stats import alive_key
from worker.queue.supervisor import JobWorker
from worker.registry.registry import Registry


def test_a_whole_service_is_live_and_ready(client: TestClient) -> None:
    live, ready = (client.get(f"/health/{path}") for path in ("live", "ready"))
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    told = {"status": "ok", "workers": {"generate": 0, "train": 0}}
    assert (ready.status_code, ready.json()) == (200, told)


def test_readiness_tells_which_queues_have_a_living_worker(
    client: TestClient, jobs: JobQueue
) -> None:
    workers = [JobWorker(jobs, "generate", threading.Event()) for _ in range(2)]
    for worker in workers:
        worker.register_birth()  # type: ignore[no-untyped-call] # RQ's own
        worker.heartbeat()
    assert client.get("/health/ready").json()["workers"] == {"generate": 2, "train": 0}
    jobs.leases.redis.delete(alive_key(workers[0].key))  # as when it has been silent for a while
    assert client.get("/health/ready").json()["workers"] == {"generate": 1, "train": 0}
    workers[1].register_death()  # type: ignore[no-untyped-call] # the same
    assert client.get("/health/ready").json()["workers"] == {"generate": 0, "train": 0}


def test_a_missing_redis_is_named_within_two_seconds(serve: Serve, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        client = serve(redis_url=valkey.url)
        assert client.get("/health/ready").status_code == 200
    started = time.monotonic()
    body = assert_problem(client.get("/health/ready"), 503, "not_ready")
    assert time.monotonic() - started < 2
    assert body["detail"] == "Missing: redis."
    assert client.get("/health/live").status_code == 200
    assert client.post("/generate", json={}).status_code == 200


@pytest.mark.parametrize("model", ["no-such-model", "fashion-mnist@staging"])
def test_a_missing_default_model_is_named(serve: Serve, model: str) -> None:
    body = assert_problem(serve(default_model=model).get("/health/ready"), 503, "not_ready")
    assert body["detail"] == "Missing: default model."


def test_damaged_weights_make_the_service_unready(serve: Serve, registry: Registry) -> None:
    card = registry.resolve("fashion-mnist")
    registry.storage.put(f"models/{card.name}/weights/{card.weights_sha256}.safetensors", b"bad")
    client = serve()
    body = assert_problem(client.get("/health/ready"), 503, "not_ready")
    assert body["detail"] == "Missing: default model."
    assert_problem(client.post("/generate", json={}), 503, "model_unavailable")


def test_a_redis_that_refuses_writes_is_missing(serve: Serve, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey, Redis.from_url(valkey.url) as redis:
        client = serve(redis_url=valkey.url)
        redis.config_set("maxmemory", 1)
        body = assert_problem(client.get("/health/ready"), 503, "not_ready")
        assert body["detail"] == "Missing: redis."
        submitted = client.post("/jobs/generate", json={"n": 1})  # it is recorded, and runs later
        assert submitted.status_code == 202
        redis.config_set("maxmemory", 0)
        assert client.get("/health/ready").status_code == 200
        assert client.get(submitted.headers["Location"]).json()["status"] == "queued"
