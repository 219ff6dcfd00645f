"""Time that a job has run, over all its attempts; what its budget is compared with.

Each attempt stores its own seconds, under its own name, so that one that was presumed dead cannot
change another's. Time in the queue, and after the last sign of a process that died, is not counted.
"""

import logging

from worker.ledger.artifacts import scratch_folder
from worker.schemas.jobs import JobRecord, now
from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

STORE_EVERY_S = 10.0


def seconds_spent(storage: Storage, record: JobRecord) -> float:
    """Seconds that the attempts before this one have run, and this one since its claim."""
    earlier = sum(_stored(storage, record.id, number) for number in range(1, record.attempt))
    return earlier + max(0.0, (now() - record.moved_at).total_seconds())


def store_seconds(storage: Storage, record: JobRecord) -> None:
    """Store how long this attempt has run so far."""
    seconds = (now() - record.moved_at).total_seconds()
    storage.put(_key(record.id, record.attempt), f"{seconds:.1f}".encode())


def _stored(storage: Storage, job_id: str, attempt: int) -> float:
    key = _key(job_id, attempt)
    try:
        return float(storage.read(key))
    except ObjectNotFound:
        return 0.0  # the attempt died at once
    except ValueError:
        logger.warning("the stored time of an attempt is damaged and not counted: %s", key)
        return 0.0


def _key(job_id: str, attempt: int) -> str:
    return f"{scratch_folder(job_id)}/seconds/{attempt:06d}"
