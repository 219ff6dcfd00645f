"""The supervisor survives failures of storage and Redis."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.worker.watching import wait_for, work_horse_of
from worker.embedded import EmbeddedValkey
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
    JobWorker(jobs, jobs.queue.connection, threading.Event()).run_maintenance_tasks()
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
