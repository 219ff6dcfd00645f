"""One attempt's hold on its job: it shows how far it is, stores what it makes, and ends the job."""

import logging
import time
from typing import BinaryIO

from pydantic import JsonValue
from redis import RedisError

from worker.artifacts import JobFiles
from worker.events import Kind
from worker.jobs import JobError, JobProgress, JobRecord
from worker.ledger import Ledger
from worker.storage import StorageError

logger = logging.getLogger(__name__)

SAMPLES = "samples"  # how the names of sample sheets begin
ASK_AGAIN_S = 5.0  # what is away; to wait for it at every report would slow the job down


class Claim:
    """Reports go to Redis, which may be away; all else is fenced by the ledger."""

    def __init__(self, ledger: Ledger, record: JobRecord) -> None:
        self.ledger = ledger
        self.record = record
        self.reported_at = time.monotonic()
        self._redis_away_until = 0.0
        self._store_away_until = 0.0
        self._told: dict[str, float] = {}  # the last metrics

    @property
    def holder(self) -> str:
        """The name that this attempt's lease has."""
        assert self.record.held_by is not None
        return self.record.held_by

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Show where the job stands, and that it lives. Redis away is no reason to stop."""
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
            self._tell("progress", {"stage": stage, **progress.model_dump()})
            if metrics != self._told:
                self._told = metrics
                self._tell("metric", {**metrics})

    def log(self, message: str) -> None:
        """Tell onlookers what they would not see otherwise."""
        logger.warning("job %s: %s", self.record.id, message)
        self._tell("log", {"message": message})

    def cancel_requested(self) -> bool:
        """Whether a client has asked the job to stop. A store that is away knows of no such wish.

        Raises:
            LeaseLost: the job has gone to another attempt, or has ended.
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
        """Let only the present owner go on; raises LeaseLost."""
        self.ledger.owned(self.record)

    def store(self, name: str, data: bytes | BinaryIO) -> None:
        """Store a file of the job; raises LeaseLost."""
        self.check()
        JobFiles(self.ledger.storage, self.record.id).put(self.record.attempt, name, data)
        if name.startswith(SAMPLES):
            self._tell("sample", {"name": name})

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
        """Commit that the job has stopped as asked; raises LeaseLost."""
        self.ledger.commit(self.record, "cancelled", stage=None)

    def hand_back(self) -> JobRecord:
        """Give the job up for another process to go on with; raises LeaseLost."""
        return self.ledger.commit(self.record, "queued", attempt=self.record.attempt + 1)

    def _tell(self, kind: Kind, data: dict[str, JsonValue]) -> None:
        if time.monotonic() >= self._redis_away_until:
            self.ledger.events.add(self.record.id, kind, data)
