"""GET /metrics: what is counted, who may read it, and that clients cannot add series."""

import json
import os
import random
import signal
import string
import time
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.app.conftest import Serve
from tests.app.exposition import series, value
from tests.app.problems import Answer, assert_problem
from tests.app.test_auth import bearer, entry
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.job_counters import MOST_MODELS, OTHERS, count_images, read_job_counters
from worker.queue.queue import JobQueue
from worker.schemas.requests import TrainJob


def scrape(client: TestClient) -> str:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return response.text


def test_requests_are_counted_and_timed_by_route(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/models/model-{number}")
    client.get("/models/fashion-mnist")
    client.get("/static/swagger/swagger-ui.css")
    client.delete("/models")
    text = scrape(client)
    count = "vitrine_http_requests_total"
    assert value(text, count, method="GET", route="/models/{name}", status="404") == 3
    assert value(text, count, method="GET", route="/models/{name}", status="200") == 1
    assert value(text, count, method="GET", route="/static", status="200") == 1
    assert value(text, count, method="DELETE", route="/models", status="405") == 1
    timed = "vitrine_http_request_duration_seconds"
    assert value(text, f"{timed}_count", method="GET", route="/models/{name}") == 4
    assert 0 < value(text, f"{timed}_sum", method="GET", route="/models/{name}") < 10


def test_a_fault_is_counted_as_a_500(client: TestClient) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    app = client.app
    assert isinstance(app, FastAPI)
    app.get("/fault")(fault)
    assert client.get("/fault").status_code == 500
    labels = {"method": "GET", "route": "/fault", "status": "500"}
    assert value(scrape(client), "vitrine_http_requests_total", **labels) == 1


def test_generation_is_counted_and_timed(client: TestClient) -> None:
    assert value(scrape(client), "vitrine_generate_waiting_requests") == 0
    for n in (1, 3):
        client.post("/generate", json={"n": n}).raise_for_status()
    text = scrape(client)
    assert value(text, "vitrine_generated_images_total", model="fashion-mnist", way="sync") == 4
    assert value(text, "vitrine_generate_batch_images_sum") == 4
    passes = value(text, "vitrine_generate_batch_images_count")
    assert 2 <= passes <= 4  # as many as lanes were free
    for stage, count in (("queue", 2), ("compute", passes), ("encode", 2)):
        assert value(text, f"vitrine_generate_{stage}_seconds_count") == count
        assert 0 < value(text, f"vitrine_generate_{stage}_seconds_sum") < 60
    assert value(text, "vitrine_generate_waiting_requests") == 0


def test_images_of_jobs_are_counted_beside_those_of_answers(
    client: TestClient, jobs: JobQueue
) -> None:
    count_images(jobs.leases.redis, "fashion-mnist", 100)
    count_images(jobs.leases.redis, "fashion-mnist", 20)
    count_images(jobs.leases.redis, "shoes", 3)
    client.post("/generate", json={"n": 2}).raise_for_status()
    text = scrape(client)
    name = "vitrine_generated_images_total"
    assert value(text, name, model="fashion-mnist", way="sync") == 2
    assert value(text, name, model="fashion-mnist", way="bulk") == 120
    assert value(text, name, model="shoes", way="bulk") == 3
    assert text.count("# TYPE vitrine_generated_images_total") == 1


def test_models_beyond_many_share_a_series(jobs: JobQueue) -> None:
    redis = jobs.leases.redis
    for number in range(MOST_MODELS + 2):
        count_images(redis, f"model-{number}", 1)
    count_images(redis, "model-0", 1)
    counted = read_job_counters(redis).images
    assert (counted["model-0"], counted[OTHERS]) == (2, 2)
    assert len(counted) == MOST_MODELS + 1


def test_jobs_are_counted_wherever_they_end(
    client: TestClient, jobs: JobQueue, dataset_id: str
) -> None:
    waiting = client.post("/jobs/train", json={"dataset": dataset_id, "model": "shoes"})
    client.post("/jobs/generate", json={"n": 1}).raise_for_status()
    client.post("/jobs/generate", json={"n": 1}).raise_for_status()
    assert value(scrape(client), "vitrine_job_queue_depth", queue="train") == 1
    assert value(scrape(client), "vitrine_job_queue_depth", queue="generate") == 2
    client.post(f"{waiting.headers['Location']}/cancel").raise_for_status()

    record = jobs.submit("train", TrainJob(dataset=dataset_id, model="bags"))
    running = jobs.ledger.claim(record.id, "horse-1")
    assert running is not None
    shown = {"stage": "training", "progress": {}, "metrics": {"images_per_second": 250.0}}
    jobs.leases.renew("horse-1", json.dumps(shown))
    jobs.leases.renew("horse-2", json.dumps(shown))
    jobs.leases.renew("horse-3", json.dumps(shown | {"stage": "evaluating"}))
    assert value(scrape(client), "vitrine_training_images_per_second") == 500
    jobs.leases.drop("horse-2")
    assert value(scrape(client), "vitrine_training_images_per_second") == 250
    jobs.ledger.commit(running, "succeeded")

    text = scrape(client)
    ended = "vitrine_jobs_ended_total"
    assert value(text, ended, type="train", status="cancelled") == 1
    assert value(text, ended, type="train", status="succeeded") == 1
    took = "vitrine_job_duration_seconds"
    assert value(text, f"{took}_bucket", type="train", le="10.0") == 1
    assert value(text, f"{took}_bucket", type="train", le="+Inf") == 1
    assert value(text, f"{took}_count", type="train") == 1
    assert value(text, "vitrine_training_images_per_second") == 0
    assert value(text, "vitrine_workers", queue="train") == 0
    assert value(text, "vitrine_workers", queue="generate") == 0
    assert value(text, "vitrine_redis_up") == 1


def test_without_redis_the_process_tells_what_it_knows(serve: Serve, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        client = serve(redis_url=valkey.url)
        client.post("/generate", json={}).raise_for_status()
        os.kill(valkey.pid, signal.SIGSTOP)  # takes connections, and answers nothing
        assert_in_time_without_jobs(client)
        os.kill(valkey.pid, signal.SIGCONT)
    assert_in_time_without_jobs(client)


def assert_in_time_without_jobs(client: TestClient) -> None:
    started = time.monotonic()
    text = scrape(client)
    assert time.monotonic() - started < 2
    assert value(text, "vitrine_redis_up") == 0
    assert value(text, "vitrine_generated_images_total", model="fashion-mnist", way="sync") == 1
    assert "vitrine_job_queue_depth" not in text


def test_no_client_can_add_series_without_end(client: TestClient) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=12)) for _ in range(1000)]
    makes: list[Callable[[str], Answer]] = [
        lambda word: client.get(f"/{word}"),
        lambda word: client.get(f"/models/{word}"),
        lambda word: client.get(f"/models?{word}=1"),
        lambda word: client.request(word.upper(), "/models"),
        lambda word: client.get(f"/static/{word}"),
        lambda word: client.post("/generate", json={"model": word}),
    ]
    for make in makes:
        make("first")
    before = set(series(scrape(client)))
    for number, word in enumerate(words):
        make = makes[number % len(makes)]
        assert make(word).status_code in (404, 405, 422), word
    after = set(series(scrape(client)))
    own = ("route", "/metrics")
    assert {key for key in after - before if own not in key[1]} == set()


def test_a_key_needs_a_scope_for_the_metrics(serve: Serve) -> None:
    scopes = ("generate", "metrics", "manage")
    client = serve(api_key_hashes=",".join(entry(scope, f"{scope}-key") for scope in scopes))
    assert_problem(client.get("/metrics"), 401, "unauthorized")
    assert_problem(client.get("/metrics", headers=bearer("generate-key")), 403, "forbidden")
    for scope in ("metrics", "manage"):
        assert client.get("/metrics", headers=bearer(f"{scope}-key")).status_code == 200
    for path in ("/models", "/jobs"):
        assert_problem(client.get(path, headers=bearer("metrics-key")), 403, "forbidden")


def test_the_document_describes_the_metrics(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
    assert "text/plain" in operation["responses"]["200"]["content"]
