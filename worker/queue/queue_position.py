"""Where queued jobs stand: how many are before them, and about when they start."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from worker.ledger.job_counters import read_usual_durations
from worker.queue.queue import JobQueue, job_of
from worker.queue.queue_stats import worker_states
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import QUEUE_OF, QueueName


@dataclass(frozen=True)
class QueuePosition:
    """The place of a queued job in its queue."""

    before: int  # jobs
    eta_s: int | None  # until it starts, an estimate; None if it cannot be told


def position_of(jobs: JobQueue, record: JobRecord) -> QueuePosition | None:
    """The position of a job; None if it is not queued."""
    return positions_of(jobs, [record]).get(record.id)


def positions_of(jobs: JobQueue, records: Sequence[JobRecord]) -> dict[str, QueuePosition]:
    """The positions of the queued ones among the jobs, by job id; reads each queue once."""
    queued = {record.id: QUEUE_OF[record.type] for record in records if record.status == "queued"}
    found: dict[str, QueuePosition] = {}
    for queue in set(queued.values()):
        waiting = jobs.waiting(queue)
        places = {job_id: number for number, job_id in enumerate(waiting)}
        starts = estimate_starts(jobs, queue, waiting)
        for job_id in (job_id for job_id, its_queue in queued.items() if its_queue == queue):
            found[job_id] = QueuePosition(places.get(job_id, 0), starts.get(job_id))
    return found


def estimate_starts(jobs: JobQueue, queue: QueueName, waiting: Sequence[str]) -> dict[str, int]:
    """Seconds until each waiting job starts, by job id, as far as they can be told.

    Each worker takes the next job when its own, by its last report, has ended; jobs take as long as
    the median of those of their type that ended last.
    """
    free_in = _seconds_until_free(jobs, queue)
    if not free_in:
        return {}
    types = jobs.ledger.index.types(waiting)
    usual_s = read_usual_durations(jobs.leases.redis, set(types.values()))
    starts: dict[str, int] = {}
    for job_id in waiting:
        start_s = heappop(free_in)
        starts[job_id] = round(start_s)
        job_type = types.get(job_id)  # none for the entry of a search's helper
        if job_type not in usual_s:
            break
        heappush(free_in, start_s + usual_s[job_type])
    return starts


def _seconds_until_free(jobs: JobQueue, queue: QueueName) -> list[float]:
    """Seconds until each worker of the queue is free, as a heap; empty if it cannot be told."""
    states = worker_states(jobs, queue)
    idle = states.count("idle")
    progress = {job_of(name): shown for name, shown in jobs.leases.all_progress().items()}
    running = jobs.ledger.index.running({t for t in QUEUE_OF if QUEUE_OF[t] == queue})
    # A worker may also be starting a job, or help a search: nobody knows for how long.
    if len(running) != len(states) - idle or not running <= set(progress):
        return []
    left_s = [json.loads(progress[job_id])["progress"]["eta_s"] for job_id in running]
    if None in left_s:
        return []
    free_in = [0.0] * idle + left_s
    heapify(free_in)
    return free_in
