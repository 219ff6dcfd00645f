"""Production mode over real HTTP: the API alone, a worker of its own, Valkey, S3, and keys."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import Service, walk

KEY = "a-key-for-this-test"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def backing(redis_url: str, s3_environment: dict[str, str]) -> dict[str, str]:
    """Environment variables of both the API and its worker."""
    return s3_environment | {
        "VITRINE_REDIS_URL": redis_url,
        "VITRINE_STORAGE_URL": "s3://vitrine/production",
        "VITRINE_LOG_FORMAT": "json",
    }


@pytest.fixture
def worker_log(backing: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Where a running worker writes its log."""
    log = tmp_path / "worker.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"], env=os.environ | backing, stderr=file
        )
    yield log
    process.terminate()
    assert process.wait(timeout=20) == 0


@pytest.fixture
def service(backing: dict[str, str]) -> Iterator[Service]:
    settings = backing | {"VITRINE_API_KEY_HASHES": f"generate+manage:{DIGEST}"}
    running = Service(settings, {"Authorization": f"Bearer {KEY}"})
    yield running
    running.close()


def test_an_api_and_a_worker_share_redis_and_s3_alone(service: Service, worker_log: Path) -> None:
    assert "Authorization: Bearer" in service.wait_until_ready()
    assert service.client.get("/jobs", headers={"Authorization": ""}).status_code == 401
    walk(service.client)
    told = [json.loads(line) for line in service.interrupt().splitlines()]
    assert all(line["request_id"] for line in told if line["logger"] == "app.access")
    job = next(line for line in told if line["logger"] == "worker.ledger.ledger")[
        "message"
    ].split()[1]
    written = [json.loads(line) for line in worker_log.read_text().splitlines()]
    not_of_a_job = {"worker", "worker.ledger.job_index"}  # start and stop, and the index
    moves = [line for line in written if line["logger"] not in not_of_a_job]
    assert {line["job_id"] for line in moves} == {job}
    assert [
        (line["job_id"], line["message"])
        for line in moves
        if line["logger"] == "worker.ledger.ledger"
    ] == [
        (job, f"job {job} is running, attempt 1"),
        (job, f"job {job} is succeeded, attempt 1"),
    ]
