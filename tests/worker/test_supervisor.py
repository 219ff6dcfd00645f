"""The supervisor, in this process: what must not end it."""

from pathlib import Path

import pytest

from worker.queue import JobQueue
from worker.requests import TrainJob
from worker.supervisor import JobWorker


def test_a_store_that_fails_does_not_end_the_supervisor(
    jobs: JobQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m"))
    file = tmp_path / "objects" / "jobs" / "records" / record.id / "000002.json"
    file.symlink_to(file)  # a record that cannot be read
    JobWorker(jobs, jobs.queue.connection).run_maintenance_tasks()
    assert "cannot look after the jobs" in caplog.text
