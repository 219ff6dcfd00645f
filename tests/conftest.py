"""Fixtures for all tests: a real Valkey server, and object stores in folders and on S3."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from redis import Redis

import tests.s3
from tests.s3 import S3Server
from worker.embedded_valkey import EmbeddedValkey
from worker.queue.queue import JobQueue, open_queue
from worker.settings import Settings
from worker.storage import Storage

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # `make test` runs two processes of tests, on two cores in CI


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A real server, one for the whole run."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url(valkey: EmbeddedValkey) -> str:
    """The server's address; what it holds is left from other tests."""
    return valkey.url


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    """A client of the server, which holds nothing when the test begins."""
    with Redis.from_url(valkey_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def redis_url(redis: Redis, valkey_url: str) -> str:  # noqa: ARG001 - it empties the server
    """The server's address; it holds nothing when the test begins."""
    return valkey_url


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """How to reach a server process that speaks S3 and has the bucket `vitrine`."""
    server = S3Server()
    yield tests.s3.s3_environment(server.port)
    server.close()


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """An empty file store."""
    return f"file://{tmp_path / 'objects'}"


@pytest.fixture
def storage(storage_url: str) -> Storage:
    """The same store, open."""
    return Storage.open(storage_url)


@pytest.fixture
def settings(redis_url: str, storage_url: str) -> Settings:
    """Settings of a service on this Valkey server and this store."""
    return Settings(
        redis_url=redis_url,
        storage_url=storage_url,
        checkpoint_every_s=0.5,
        allowed_hosts="testserver",  # as Starlette's TestClient calls it
    )


@pytest.fixture
def jobs(settings: Settings, storage: Storage) -> Iterator[JobQueue]:
    """The job queue on this Valkey server and this store."""
    queue = open_queue(settings, storage, timeout_s=1)
    yield queue
    queue.leases.redis.close()
    queue.connection.close()
