"""Queue statistics: depth, workers, training throughput and job counters, read from Redis."""

import json
from dataclasses import dataclass

from rq import worker_registration

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
    return {name: len(worker_states(jobs, name)) for name in QUEUES}


def worker_states(jobs: JobQueue, queue: QueueName) -> list[str]:
    """RQ's state (`idle`, `busy`, …) of each living worker that serves the queue."""
    keys = sorted(worker_registration.get_keys(jobs.queues[queue]))
    with jobs.leases.redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(alive_key(key))
            pipeline.hget(key, "state")
        found = pipeline.execute()
    return [str(state) for alive, state in zip(found[::2], found[1::2], strict=True) if alive]


def alive_key(worker_key: str) -> str:
    """Redis key that exists while a worker lives, from RQ's key of it."""
    return f"vitrine:alive:{worker_key}"


def _throughput(shown: str) -> float:
    progress = json.loads(shown)
    # The stages after the training still report its last metrics.
    if progress["stage"] != "training":
        return 0.0
    return float(progress["metrics"].get("images_per_second", 0.0))
