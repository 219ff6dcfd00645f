"""Production mode over real HTTP: the API alone, a worker of its own, Valkey, S3, and keys."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.service import Service, walk

KEY = "a-key-for-this-test"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def backing(redis_url: str, s3_environment: dict[str, str]) -> dict[str, str]:
    """What the API and its worker are both told."""
    return s3_environment | {
        "VITRINE_REDIS_URL": redis_url,
        "VITRINE_STORAGE_URL": "s3://vitrine/production",
    }


@pytest.fixture
def worker(backing: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-m", "worker"], env=os.environ | backing)
    yield process
    process.terminate()
    assert process.wait(timeout=20) == 0


@pytest.fixture
def service(backing: dict[str, str]) -> Iterator[Service]:
    settings = backing | {"VITRINE_API_KEY_HASHES": f"generate+manage:{DIGEST}"}
    running = Service(settings, {"Authorization": f"Bearer {KEY}"})
    yield running
    running.close()


@pytest.mark.usefixtures("worker")
def test_an_api_and_a_worker_share_redis_and_s3_alone(service: Service) -> None:
    assert "Authorization: Bearer" in service.wait_until_ready()
    assert service.client.get("/jobs", headers={"Authorization": ""}).status_code == 401
    walk(service.client)
    service.interrupt()
