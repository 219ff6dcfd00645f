"""The supervisor survives failures of storage and Redis."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError
from rq.exceptions import StopRequested

from tests.worker.watching import wait_for, work_horse_of
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.leases import FIRST_SEEN
from worker.queue.queue import JobQueue, open_queue
from worker.queue.supervisor import JobWorker
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage


def test_a_store_that_fails_does_not_end_the_supervisor(
    jobs: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m"))
    file = tmp_path / "objects" / "jobs" / "records" / record.id / "000002.json"
    file.symlink_to(file)  # a record that cannot be read
    JobWorker(jobs, "train", threading.Event()).run_maintenance_tasks()
    assert "reconciling the jobs failed" in caplog.text


def test_a_worker_without_redis_ends_when_told_and_its_job_is_handed_back(
    tmp_path: Path, storage: Storage, storage_url: str, tiny_job: TrainJob
) -> None:
    with EmbeddedValkey(tmp_path / "own") as valkey:
        settings = Settings(redis_url=valkey.url, storage_url=storage_url)
        jobs = open_queue(settings, storage, timeout_s=1)
        environment = os.environ | {
            "VITRINE_REDIS_URL": valkey.url,
            "VITRINE_STORAGE_URL": storage_url,
            "VITRINE_QUEUES": "train",
        }
        worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment)
        job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 1_000_000}))
        wait_for(jobs, job.id, lambda record: record.stage == "training")
    horse = work_horse_of(worker)
    time.sleep(2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    assert not Path(f"/proc/{horse}/exe").exists()
    record = jobs.ledger.records.read(job.id)
    assert (record.status, record.attempt, record.crashes) == ("queued", 2, 0)


LEASE_S = 3.0
OUTAGE_S = 7.0


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server of one test's own, which may be brought to refuse commands."""
    with EmbeddedValkey(tmp_path / "own") as valkey:
        yield valkey


@pytest.fixture
def own_jobs(own_valkey: EmbeddedValkey, storage: Storage, storage_url: str) -> Iterator[JobQueue]:
    """The job queue on that server, with short leases."""
    settings = Settings(redis_url=own_valkey.url, storage_url=storage_url, lease_s=LEASE_S)
    jobs = open_queue(settings, storage, timeout_s=1)
    yield jobs
    jobs.leases.redis.close()
    jobs.connection.close()


@pytest.fixture
def own_worker(own_jobs: JobQueue) -> Iterator["subprocess.Popen[bytes]"]:
    """`python -m worker` on that server."""
    environment = os.environ | {
        "VITRINE_REDIS_URL": str(own_jobs.settings.redis_url),
        "VITRINE_STORAGE_URL": str(own_jobs.settings.storage_url),
        "VITRINE_LEASE_S": str(LEASE_S),
        "VITRINE_QUEUES": "train",
        "OMP_NUM_THREADS": "1",
    }
    worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment)
    yield worker
    worker.kill()
    worker.wait()


Switch = Callable[[Redis], object]
REFUSALS: dict[str, tuple[Switch, Switch]] = {
    "full": (
        lambda redis: redis.config_set("maxmemory", 1),
        lambda redis: redis.config_set("maxmemory", 0),
    ),
    "read-only": (
        lambda redis: redis.replicaof("localhost", 1),
        lambda redis: redis.replicaof("NO", "ONE"),
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_redis_that_refuses_writes_ends_no_training_and_no_worker(
    own_jobs: JobQueue, own_worker: "subprocess.Popen[bytes]", tiny_job: TrainJob, refusal: str
) -> None:
    refuse, accept = REFUSALS[refusal]
    redis = own_jobs.leases.redis
    job = own_jobs.submit("train", tiny_job.model_copy(update={"max_images": 10_000_000}))
    wait_for(own_jobs, job.id, lambda record: record.stage == "training")
    horse = work_horse_of(own_worker)
    refuse(redis)
    with pytest.raises(RedisError):
        redis.set("key", "value")
    time.sleep(OUTAGE_S)
    assert not own_jobs.leases.is_held(str(own_jobs.fetch(job.id).held_by))
    assert work_horse_of(own_worker) == horse
    accept(redis)
    time.sleep(OUTAGE_S)
    record = own_jobs.fetch(job.id)
    assert (record.status, record.attempt, record.crashes) == ("running", 1, 0)
    assert own_jobs.leases.is_held(str(record.held_by))
    assert (own_worker.poll(), work_horse_of(own_worker)) == (None, horse)


def test_a_process_that_redis_refuses_before_it_claims_its_job_is_no_death(
    own_jobs: JobQueue, own_worker: "subprocess.Popen[bytes]", tiny_job: TrainJob
) -> None:
    redis = own_jobs.leases.redis
    job = own_jobs.submit("train", tiny_job)
    children = Path(f"/proc/{own_worker.pid}/task/{own_worker.pid}/children")
    wait_until(lambda: bool(children.read_text()))
    redis.config_set("maxmemory", 1)
    wait_until(lambda: not children.read_text())
    redis.config_set("maxmemory", 0)
    ended = wait_for(own_jobs, job.id, lambda record: record.terminal)
    assert (ended.status, ended.attempt, ended.crashes) == ("succeeded", 1, 0)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fault_of_the_reconciler_does_not_end_the_supervisor(
    jobs: JobQueue, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.leases.redis.set(FIRST_SEEN, "no time")
    JobWorker(jobs, "train", threading.Event()).run_maintenance_tasks()
    assert "failed by a fault" in caplog.text


def test_a_worker_that_is_told_to_stop_while_it_reconciles_stops(
    jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = JobWorker(jobs, "train", threading.Event())

    def told_to_stop(_jobs: JobQueue) -> None:
        # As the handler of the signal does.
        worker.request_stop(signal.SIGTERM, None)  # type: ignore[no-untyped-call] # RQ's own

    monkeypatch.setattr("worker.queue.supervisor.reconcile_in_turn", told_to_stop)
    handlers = [(each, signal.getsignal(each)) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(StopRequested):
        worker.run_maintenance_tasks()
    for signum, handler in handlers:  # the next signal would end this process
        signal.signal(signum, handler)
