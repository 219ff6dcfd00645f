"""Search helper: a worker that trains candidates for a search job that another worker owns.

A helper is delivered by the queue like a job, but owns nothing in the ledger: it has a lease of its
own, and stops when the job does. If it dies, its candidate is trained again by another process.
"""

import logging
import time

from redis import RedisError

from worker.ledger.ledger import Ledger
from worker.schemas.jobs import JobProgress, JobRecord

logger = logging.getLogger(__name__)


class SearchHelper:
    """A `Reportable` that renews its own lease and cannot commit anything to the job."""

    def __init__(self, ledger: Ledger, record: JobRecord, name: str) -> None:
        self.ledger = ledger
        self.record = record
        self.name = name
        self.reported_at = time.monotonic()

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Renew this helper's lease; only the job's owner publishes the job's progress."""
        changes = {"stage": stage, "progress": progress, "metrics": metrics}
        self.record = self.record.model_copy(update=changes)
        self.reported_at = time.monotonic()
        try:
            self.ledger.leases.renew(self.name)
        except RedisError:
            logger.warning("Redis is away: %s goes on", self.name)

    def cancel_requested(self) -> bool:
        """Whether the job has ended or is being cancelled."""
        status = self.ledger.records.read(self.record.id).status
        return status not in ("queued", "running")

    def is_orphaned(self) -> bool:
        """Whether the job has no owner and is queued; this worker may be the one to claim it."""
        return self.ledger.records.read(self.record.id).status == "queued"

    def leave(self) -> None:
        """Drop the lease, so that the training of this process is released to another one."""
        self.ledger.leases.drop(self.name)
