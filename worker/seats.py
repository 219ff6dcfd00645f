"""Places at a search for workers beside the one that owns its job.

A helper is delivered like a job and owns nothing in the ledger: a lease of its own shows that it
lives, and it stops when the job does. Nobody waits for it, and whatever it was training when it
died is trained again.
"""

import logging
import time

from redis import RedisError

from worker.jobs import JobProgress, JobRecord
from worker.ledger import Ledger

logger = logging.getLogger(__name__)


class Seat:
    """What `Watch` asks of a claim, without the right to commit anything."""

    def __init__(self, ledger: Ledger, record: JobRecord, name: str) -> None:
        self.ledger = ledger
        self.record = record
        self.name = name
        self.reported_at = time.monotonic()

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Show that this process lives; how far the job is, its owner shows."""
        changes = {"stage": stage, "progress": progress, "metrics": metrics}
        self.record = self.record.model_copy(update=changes)
        self.reported_at = time.monotonic()
        try:
            self.ledger.leases.renew(self.name)
        except RedisError:
            logger.warning("Redis is away: %s goes on", self.name)

    def cancel_requested(self) -> bool:
        """Whether nobody wants the job any more."""
        status = self.ledger.records.read(self.record.id).status
        return status not in ("queued", "running")

    def is_orphaned(self) -> bool:
        """Whether the job waits for a worker to own it, which may be this one."""
        return self.ledger.records.read(self.record.id).status == "queued"

    def leave(self) -> None:
        """Let whatever this process was training be trained by another."""
        self.ledger.leases.drop(self.name)
