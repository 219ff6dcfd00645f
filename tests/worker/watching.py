"""Waiting for a job, and finding the process that runs it."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobRecord

DEADLINE_S = 120.0


def wait_for(jobs: JobQueue, job_id: str, reached: Callable[[JobRecord], bool]) -> JobRecord:
    """The job once `reached` holds; fails if it ends before, or takes longer than `DEADLINE_S`."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        record = jobs.fetch(job_id)
        if reached(record):
            return record
        assert not record.terminal, record
        time.sleep(0.05)
    raise AssertionError(f"not reached within {DEADLINE_S} s: {jobs.fetch(job_id)}")


def work_horse_of(worker: "subprocess.Popen[bytes]") -> int:
    """Process id of the work-horse: the worker's only child."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])
