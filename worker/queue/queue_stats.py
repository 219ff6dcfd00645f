"""Queue statistics: depth, workers, training throughput and job counters, read from Redis."""

import json
from dataclasses import dataclass

from worker.ledger.job_counters import JobCounters, read_job_counters
from worker.queue.queue import JobQueue
from worker.schemas.requests import QUEUES, QueueName


@dataclass(frozen=True)
class QueueStats:
    """Statistics of all workers and jobs, on all machines."""

    depths: dict[QueueName, int]  # entries that wait on each queue
    workers: dict[QueueName, int]  # that serve each queue
    images_per_second: float  # sum over all running trainings
    counters: JobCounters


def read_queue_stats(jobs: JobQueue) -> QueueStats:
    """Read the statistics; raises RedisError."""
    return QueueStats(
        depths={name: jobs.queues[name].count for name in QUEUES},
        workers=count_workers(jobs),
        images_per_second=sum(map(_throughput, jobs.leases.all_progress().values())),
        counters=read_job_counters(jobs.leases.redis),
    )


def count_workers(jobs: JobQueue) -> dict[QueueName, int]:
    """Number of living workers, busy or idle, that serve each queue; raises RedisError."""
    return {name: len(jobs.worker_states(name)) for name in QUEUES}


def _throughput(shown: str) -> float:
    progress = json.loads(shown)
    # The stages after the training still report its last metrics.
    if progress["stage"] != "training":
        return 0.0
    return float(progress["metrics"].get("images_per_second", 0.0))
