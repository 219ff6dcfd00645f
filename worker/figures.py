"""The job system in numbers, as Redis knows them at this moment."""

import json
from dataclasses import dataclass

from worker.queue import JobQueue
from worker.tallies import Tallies, read_tallies


@dataclass(frozen=True)
class Figures:
    """Of all workers and all jobs, on whatever machine."""

    queue_depth: int
    workers: int
    images_per_second: float  # of all trainings that run
    tallies: Tallies


def read_figures(jobs: JobQueue) -> Figures:
    """The figures; raises RedisError."""
    return Figures(
        queue_depth=jobs.queue.count,
        workers=jobs.workers(),
        images_per_second=sum(map(_throughput, jobs.leases.all_progress())),
        tallies=read_tallies(jobs.leases.redis),
    )


def _throughput(shown: str) -> float:
    progress = json.loads(shown)
    # The metrics of a training outlast it, through the stages that follow.
    if progress["stage"] != "training":
        return 0.0
    return float(progress["metrics"].get("images_per_second", 0.0))
