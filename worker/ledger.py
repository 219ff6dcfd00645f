"""What becomes of jobs, and who may say so.

The chain of a job's records is the fence: a process that was frozen, cut off or taken for dead
finds the next revision written by another, and can commit nothing any more. Redis, which may be
lost, is asked for no decision.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress

from pydantic import JsonValue
from redis import RedisError

from worker.events import Events
from worker.jobs import IllegalMove, JobProgress, JobRecord, JobStatus, after_death, move, now
from worker.leases import Leases
from worker.records import Records
from worker.storage import ObjectExists, Storage, StorageError
from worker.tallies import count_end
from worker.webhooks import Deliveries

logger = logging.getLogger(__name__)


class LeaseLost(RuntimeError):
    """Another attempt owns the job now; whatever this process still holds is stale."""


class Ledger:
    """Job records in storage, their live view in Redis."""

    def __init__(self, storage: Storage, leases: Leases, events: Events) -> None:
        self.storage = storage
        self.records = Records(storage)
        self.deliveries = Deliveries(storage)
        self.leases = leases
        self.events = events

    def create(self, record: JobRecord) -> bool:
        """Write a job's first revision; durable when this returns. False where it has one."""
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
        record = self.records.read(job_id)
        shown = self.leases.progress(record.held_by) if record.held_by else None
        if shown is None:
            return record
        fields = json.loads(shown)
        fields["progress"] = JobProgress.model_validate(fields["progress"])
        return record.model_copy(update=fields)

    def active(self) -> Iterator[JobRecord]:
        """The jobs that have not ended, oldest first."""
        for record in self.records.marked():
            if record.terminal:  # whoever ended it died before it could tidy up
                self._close(record)
            else:
                yield record

    def claim(self, job_id: str, holder: str) -> JobRecord | None:
        """The right to run a queued job; None when it is not queued, or somebody was faster."""
        record = self.records.read(job_id)
        if record.status != "queued":
            return None
        self.leases.renew(holder)  # first, or it would be taken for dead at once
        started = {"started_at": record.started_at or now(), "held_by": holder, "not_before": None}
        try:
            return self._append(move(record, "running", **started))
        except ObjectExists:
            return None

    def cancel(self, job_id: str) -> JobRecord:
        """End a queued job, ask a running one to stop. Cancelling twice is no error.

        Raises:
            JobNotFound: no such job.
            IllegalMove: it has ended already.
        """
        while True:
            record = self.records.read(job_id)
            if record.status == "cancelling":
                return record
            status: JobStatus = "cancelled" if record.status == "queued" else "cancelling"
            try:
                return self._append(move(record, status))
            except ObjectExists:
                continue  # it has moved meanwhile

    def release(self, record: JobRecord, max_attempts: int) -> JobRecord | None:
        """What becomes of a job whose process died: queued again, or ended.

        None where it has moved since `record`, so that there is nothing to do.
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
                continue  # a client has cancelled it meanwhile, or we are no longer its owner
            with suppress(RedisError):  # else the lease runs out
                self.leases.drop(str(held.held_by))
            return record

    def owned(self, held: JobRecord) -> JobRecord:
        """The present record of a job that the attempt in `held` still owns.

        Raises:
            LeaseLost: it does not.
        """
        newer = self.records.after(held)
        if newer is None:
            return held
        if newer.status == "cancelling" and self.records.after(newer) is None:
            return newer
        raise LeaseLost(f"attempt {held.attempt} of {held.id} is over")

    def _append(self, record: JobRecord) -> JobRecord:
        self.records.append(record)
        logger.info("job %s is %s, attempt %d", record.id, record.status, record.attempt)
        data: dict[str, JsonValue] = {"status": record.status, "attempt": record.attempt}
        told = self.events.add(record.id, "status", data)
        if record.terminal:
            if told:  # else Redis is away, and need not be waited for a second time
                count_end(self.events.redis, record)
            try:
                self._close(record)
            except StorageError:
                logger.warning("job %s has ended; it is tidied up later", record.id)
        return record

    def _close(self, record: JobRecord) -> None:
        self.events.keep(self.storage, record.id)
        self.deliveries.open(record)
        self.records.close(record.id)  # last: until then, all of this is done again
