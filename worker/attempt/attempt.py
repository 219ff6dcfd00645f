"""Attempt: one run of a claimed job, with its progress reports, files and final commit."""

import logging
import time
from typing import BinaryIO

from pydantic import JsonValue
from redis import RedisError

from worker.ledger.artifacts import JobFiles
from worker.ledger.events import Kind
from worker.ledger.ledger import LeaseLost, Ledger
from worker.ledger.time_spent import STORE_EVERY_S, store_seconds
from worker.schemas.jobs import JobError, JobProgress, JobRecord, JobStatus
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
        self._stage: str | None = None
        self._stage_began_at = 0.0
        self._seconds_stored_at = time.monotonic()

    @property
    def holder(self) -> str:
        """The name of this attempt's lease."""
        assert self.record.held_by is not None
        return self.record.held_by

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Record stage, progress and metrics, and renew the lease. Redis errors are only logged."""
        self._log_stage(stage)
        changes = {"stage": stage, "progress": progress, "metrics": metrics}
        self.record = self.record.model_copy(update=changes)
        self.reported_at = time.monotonic()
        if self.reported_at - self._seconds_stored_at >= STORE_EVERY_S:
            self._seconds_stored_at = self.reported_at
            self._store_seconds()
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
        self._commit("succeeded", result=result, progress=done)

    def fail(self, code: str, message: str) -> None:
        """Commit a failure; raises LeaseLost."""
        error = JobError(code=code, message=message)
        self._commit("failed", error=error)

    def confirm_cancelled(self) -> None:
        """Commit that the job was cancelled; raises LeaseLost."""
        self._commit("cancelled")

    def hand_back(self) -> JobRecord:
        """Put the job back to `queued`, for another attempt to resume; raises LeaseLost."""
        self._log_stage(None)
        self._store_seconds()
        return self.ledger.commit(self.record, "queued", attempt=self.record.attempt + 1)

    def _commit(self, status: JobStatus, **changes: object) -> None:
        self._log_stage(None)
        self.ledger.commit(self.record, status, stage=None, **changes)

    def _log_stage(self, stage: str | None) -> None:
        """Log the end of the last stage and the beginning of this one; None: the attempt ends."""
        if stage == self._stage:
            return
        if self._stage is not None:
            seconds = time.monotonic() - self._stage_began_at
            logger.info("job %s: %s took %.1f s", self.record.id, self._stage, seconds)
        if stage is not None:
            logger.info("job %s: %s begins", self.record.id, stage)
        self._stage, self._stage_began_at = stage, time.monotonic()

    def _store_seconds(self) -> None:
        """Store the time spent, which the next attempt goes on from; a failure is only logged."""
        try:
            self.check()
            store_seconds(self.ledger.storage, self.record)
        except LeaseLost:
            return  # the next commit, or look for a cancellation, raises it
        except StorageError as error:
            logger.warning("job %s: the time spent was not stored: %s", self.record.id, error)

    def _add_event(self, kind: Kind, data: dict[str, JsonValue]) -> None:
        if time.monotonic() >= self._redis_away_until:
            self.ledger.events.add(self.record.id, kind, data)
