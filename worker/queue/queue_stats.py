"""Queue statistics: depth, workers, training throughput and job counters, read from Redis."""

import json
from dataclasses import dataclass

from worker.ledger.job_counters import JobCounters, read_job_counters
from worker.queue.queue import JobQueue


@dataclass(frozen=True)
class QueueStats:
    """Statistics of all workers and jobs, on all machines."""

    queue_depth: int
    workers: int
    images_per_second: float  # sum over all running trainings
    counters: JobCounters


def read_queue_stats(jobs: JobQueue) -> QueueStats:
    """Read the statistics; raises RedisError."""
    return QueueStats(
        queue_depth=jobs.queue.count,
        workers=jobs.workers(),
        images_per_second=sum(map(_throughput, jobs.leases.all_progress())),
        counters=read_job_counters(jobs.leases.redis),
    )


def _throughput(shown: str) -> float:
    progress = json.loads(shown)
    # The stages after the training still report its last metrics.
    if progress["stage"] != "training":
        return 0.0
    return float(progress["metrics"].get("images_per_second", 0.0))
