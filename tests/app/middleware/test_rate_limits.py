"""Rate limiting: who is counted together, its headers, and the cost of a Redis outage."""

import os
import signal
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from redis import Redis

from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry
from worker.embedded_valkey import EmbeddedValkey
from worker.settings import Settings


def headers_of(client: TestClient, **headers: str) -> tuple[str, ...]:
    answer = client.get("/models", headers=headers)
    assert answer.status_code == 200
    return tuple(answer.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset"))


def test_a_client_is_told_what_is_left_and_when_it_may_come_again(serve: Serve) -> None:
    client = serve(rate_limit="3/second")
    while True:  # the window slides: begin with an empty one, repeat if slow
        time.sleep(1.1)
        started = time.monotonic()
        told = [headers_of(client) for _ in range(3)]
        refused = client.post("/generate", json={})
        if time.monotonic() - started < 0.9:
            break
    assert told == [("3", "2", "1"), ("3", "1", "1"), ("3", "0", "1")]
    assert_problem(refused, 429, "rate_limited")
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["retry-after"] == "1"
    time.sleep(int(refused.headers["retry-after"]))
    assert client.get("/models").status_code == 200


def test_retry_after_is_when_it_helps(serve: Serve) -> None:
    client = serve(rate_limit="2/minute")
    client.get("/models")
    client.get("/models")
    refused = client.get("/models")
    assert_problem(refused, 429, "rate_limited")
    assert 50 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]


def test_processes_count_together(serve: Serve) -> None:
    first, second = serve(rate_limit="10/hour"), serve(rate_limit="10/hour")
    left = [int(headers_of(client)[1]) for client in (first, second, first, second)]
    assert left == [9, 8, 7, 6]


def test_each_key_has_a_limit_of_its_own(serve: Serve, redis: Redis) -> None:
    keys = ",".join([entry("generate", "shop-key"), entry("generate", "owner-key")])
    client = serve(rate_limit="2/hour", api_key_hashes=keys)
    for _ in range(2):
        assert client.get("/models", headers=bearer("shop-key")).status_code == 200
    assert_problem(client.get("/models", headers=bearer("shop-key")), 429, "rate_limited")
    assert headers_of(client, **bearer("owner-key"))[1] == "1"
    # Requests with invalid keys are counted by address: all guesses share one limit.
    guesses = [client.get("/models", headers=bearer(f"guess-{number}")) for number in range(3)]
    assert [guess.status_code for guess in guesses] == [401, 401, 429]
    assert list(redis.scan_iter("*shop-key*")) == []


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/static/x"]
)
def test_probes_and_documents_are_not_limited(serve: Serve, path: str) -> None:
    client = serve(rate_limit="1/hour")
    for _ in range(3):
        answer = client.get(path)
        assert answer.status_code != 429
        assert "ratelimit-limit" not in answer.headers


def test_without_the_setting_nobody_is_limited(client: TestClient, redis: Redis) -> None:
    assert "ratelimit-limit" not in client.get("/models").headers
    assert redis.keys("vitrine:rate*") == []


def test_without_redis_all_pass_and_hardly_wait(serve: Serve, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        client = serve(redis_url=valkey.url, rate_limit="1/hour")
        headers_of(client)
        os.kill(valkey.pid, signal.SIGSTOP)  # accepts connections, but does not answer
        started = time.monotonic()
        assert client.get("/models").status_code == 200
        assert time.monotonic() - started < 1.5
        started = time.monotonic()
        for _ in range(10):
            assert client.get("/models").status_code == 200
        assert time.monotonic() - started < 2, "each request waits for Redis"
        os.kill(valkey.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "text", ["fast", "0/second", "-1/minute", "10/fortnight", "10", "1000000/day"]
)
def test_what_is_no_limit_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings(rate_limit=text)
