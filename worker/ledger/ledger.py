"""Job ledger: the transitions of jobs, fenced against stale processes.

The revision number of a job's record is the fencing token: a process that was frozen, cut off or
presumed dead finds the next revision written by another process and can commit nothing. No decision
depends on Redis, which may be lost.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress

from pydantic import JsonValue
from redis import RedisError

from worker.ledger.artifacts import JobFiles
from worker.ledger.events import Events
from worker.ledger.job_counters import count_end
from worker.ledger.job_index import JobIndex
from worker.ledger.leases import Leases
from worker.ledger.records import Records
from worker.schemas.jobs import (
    IllegalMove,
    JobProgress,
    JobRecord,
    JobStatus,
    after_death,
    move,
    now,
)
from worker.storage import ObjectExists, Storage, StorageError
from worker.webhooks.deliveries import Deliveries

logger = logging.getLogger(__name__)


class LeaseLost(RuntimeError):
    """This attempt does not own the job any more: another one does, or the job has ended."""


class Ledger:
    """Job records in storage, with live progress, events and the index in Redis."""

    def __init__(self, storage: Storage, leases: Leases, events: Events) -> None:
        self.storage = storage
        self.records = Records(storage)
        self.deliveries = Deliveries(storage)
        self.leases = leases
        self.events = events
        self.index = JobIndex(leases.redis)

    def create(self, record: JobRecord) -> bool:
        """Write a job's first revision; durable when this returns. False if it has one already."""
        try:
            self._append(record)
        except ObjectExists:
            return False
        return True

    def fetch(self, job_id: str) -> JobRecord:
        """The record, with the live progress of a running job.

        Raises:
            JobNotFound: no such job.
        """
        return self.live(self.records.read(job_id))

    def live(self, record: JobRecord) -> JobRecord:
        """The record, with the last progress that a running job has reported."""
        shown = self.leases.progress(record.held_by) if record.held_by else None
        if shown is None:
            return record
        fields = json.loads(shown)
        fields["progress"] = JobProgress.model_validate(fields["progress"])
        return record.model_copy(update=fields)

    def active(self) -> Iterator[JobRecord]:
        """The jobs that have not ended, oldest first."""
        for record in self.records.marked_open():
            if record.terminal:  # the process that ended it died before it cleaned up
                self._try_to_close(record)
            else:
                yield record

    def claim(self, job_id: str, holder: str) -> JobRecord | None:
        """Claim a queued job for `holder`; None if it is not queued or was claimed meanwhile."""
        record = self.records.read(job_id)
        if record.status != "queued":
            return None
        self.leases.renew(holder)  # first: a claim without a lease would count as a death
        started = {"started_at": record.started_at or now(), "held_by": holder, "not_before": None}
        try:
            return self._append(move(record, "running", **started))
        except ObjectExists:
            return None

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a queued job, or request a running one to stop.

        Calling it again, while the job stops or once it is cancelled, has no further effect.

        Raises:
            JobNotFound: no such job.
            IllegalMove: it has succeeded or failed already.
        """
        while True:
            record = self.records.read(job_id)
            if record.status in ("cancelling", "cancelled"):
                return record
            if record.terminal:
                raise IllegalMove(f"{job_id} has {record.status}: there is nothing left to cancel")
            status: JobStatus = "cancelled" if record.status == "queued" else "cancelling"
            try:
                return self._append(move(record, status))
            except ObjectExists:
                continue  # another process has moved the job meanwhile

    def release(self, record: JobRecord, max_attempts: int) -> JobRecord | None:
        """Queue a job again whose process died, or end it: see `after_death`.

        None if the job has moved since `record`, so that there is nothing to do.
        """
        try:
            return self._append(after_death(record, max_attempts))
        except (ObjectExists, IllegalMove):
            return None

    def commit(self, held: JobRecord, status: JobStatus, **changes: object) -> JobRecord:
        """Move a job on behalf of the attempt in `held`, with the progress it has reported.

        Raises:
            LeaseLost: another attempt owns the job.
        """
        while True:
            current = self.owned(held)
            known = {"status": current.status, "revision": current.revision}
            try:
                record = self._append(move(held.model_copy(update=known), status, **changes))
            except ObjectExists:
                continue  # a client has cancelled it meanwhile, or another attempt owns it
            with suppress(RedisError):  # the lease then runs out by itself
                self.leases.drop(str(held.held_by))
            return record

    def owned(self, held: JobRecord) -> JobRecord:
        """The newest record of a job that the attempt in `held` still owns.

        Raises:
            LeaseLost: the attempt does not own the job any more.
        """
        newer = self.records.after(held)
        if newer is None:
            return held
        if newer.status == "cancelling" and self.records.after(newer) is None:
            return newer
        raise LeaseLost(f"attempt {held.attempt} of {held.id} is over")

    def delete(self, job_id: str) -> None:
        """Delete an ended job with all its files. After a crash, `retention.prune` completes it."""
        JobFiles(self.storage, job_id).delete()
        self.events.delete(self.storage, job_id)
        self.deliveries.delete(job_id)
        self.records.delete(job_id)
        self.index.remove(job_id)  # last: until then `retention.expired` finds it

    def _append(self, record: JobRecord) -> JobRecord:
        self.records.append(record)
        logger.info("job %s is %s, attempt %d", record.id, record.status, record.attempt)
        data: dict[str, JsonValue] = {"status": record.status, "attempt": record.attempt}
        event_added = self.events.add(record.id, "status", data)
        if record.terminal:
            if event_added:  # else Redis is away: do not wait for a second timeout
                count_end(self.events.redis, record)
            self._try_to_close(record)
        elif event_added:
            with suppress(RedisError):  # the reconciler indexes it later
                self.index.put(record)
        return record

    def _try_to_close(self, record: JobRecord) -> None:
        try:
            self._close(record)
        except (StorageError, RedisError):
            logger.warning("job %s has ended; it is tidied up later", record.id)

    def _close(self, record: JobRecord) -> None:
        self.events.keep(self.storage, record.id)
        self.deliveries.open(record)
        self.index.put(record)
        self.records.close(record.id)  # last: until then, all of this is retried
