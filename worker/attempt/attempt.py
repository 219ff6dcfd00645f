"""Attempt: one run of a claimed job, with its progress reports, files and final commit."""

import logging
import time
from typing import BinaryIO

from pydantic import JsonValue
from redis import RedisError

from worker.ledger.artifacts import JobFiles
from worker.ledger.events import Kind
from worker.ledger.ledger import Ledger
from worker.schemas.jobs import JobError, JobProgress, JobRecord
from worker.storage import StorageError

logger = logging.getLogger(__name__)

SAMPLES = "samples"  # how the names of sample sheets begin
ASK_AGAIN_S = 5.0  # pause after a failure: a timeout at every report would slow the job down


class Attempt:
    """One attempt at a job: reports go to Redis, which may be away; the ledger fences the rest."""

    def __init__(self, ledger: Ledger, record: JobRecord) -> None:
        self.ledger = ledger
        self.record = record
        self.reported_at = time.monotonic()
        self._redis_away_until = 0.0
        self._store_away_until = 0.0
        self._last_metrics: dict[str, float] = {}  # the last metrics

    @property
    def holder(self) -> str:
        """The name of this attempt's lease."""
        assert self.record.held_by is not None
        return self.record.held_by

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Record stage, progress and metrics, and renew the lease. Redis errors are only logged."""
        changes = {"stage": stage, "progress": progress, "metrics": metrics}
        self.record = self.record.model_copy(update=changes)
        self.reported_at = time.monotonic()
        if time.monotonic() < self._redis_away_until:
            return
        shown = self.record.model_dump_json(include={"stage", "progress", "metrics"})
        try:
            self.ledger.leases.renew(self.holder, shown)
        except RedisError:
            self._redis_away_until = time.monotonic() + ASK_AGAIN_S
            logger.warning("Redis is away: the progress of %s is not shown", self.record.id)
        else:
            self._add_event("progress", {"stage": stage, **progress.model_dump()})
            if metrics != self._last_metrics:
                self._last_metrics = metrics
                self._add_event("metric", {**metrics})

    def log(self, message: str) -> None:
        """Write a message to the log and to the job's events."""
        logger.warning("job %s: %s", self.record.id, message)
        self._add_event("log", {"message": message})

    def cancel_requested(self) -> bool:
        """Whether a client has cancelled the job; False while the store does not answer.

        Raises:
            LeaseLost: another attempt owns the job, or it has ended.
        """
        if time.monotonic() < self._store_away_until:
            return False
        try:
            return self.ledger.owned(self.record).status == "cancelling"
        except StorageError:
            self._store_away_until = time.monotonic() + ASK_AGAIN_S
            logger.warning("the store does not answer; job %s goes on", self.record.id)
            return False

    def check(self) -> None:
        """Raise LeaseLost unless this attempt still owns the job."""
        self.ledger.owned(self.record)

    def store(self, name: str, data: bytes | BinaryIO) -> None:
        """Store a file of the job; raises LeaseLost."""
        self.check()
        JobFiles(self.ledger.storage, self.record.id).put(self.record.attempt, name, data)
        if name.startswith(SAMPLES):
            self._add_event("sample", {"name": name})

    def succeed(self, result: dict[str, JsonValue]) -> None:
        """Commit the result; raises LeaseLost."""
        step = self.record.progress.step
        done = JobProgress(step=step, total=step, percent=100.0, eta_s=0)
        self.ledger.commit(self.record, "succeeded", result=result, stage=None, progress=done)

    def fail(self, code: str, message: str) -> None:
        """Commit a failure; raises LeaseLost."""
        error = JobError(code=code, message=message)
        self.ledger.commit(self.record, "failed", error=error, stage=None)

    def confirm_cancelled(self) -> None:
        """Commit that the job was cancelled; raises LeaseLost."""
        self.ledger.commit(self.record, "cancelled", stage=None)

    def hand_back(self) -> JobRecord:
        """Put the job back to `queued`, for another attempt to resume; raises LeaseLost."""
        return self.ledger.commit(self.record, "queued", attempt=self.record.attempt + 1)

    def _add_event(self, kind: Kind, data: dict[str, JsonValue]) -> None:
        if time.monotonic() >= self._redis_away_until:
            self.ledger.events.add(self.record.id, kind, data)
