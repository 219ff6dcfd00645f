"""The durable record of every job, and who may change it.

A job's record is a chain of revisions in object storage, one for each transition, and each can be
created only once: of two processes that want to move a job from where it is, storage lets one. That
is the fence. A process that was frozen, cut off or taken for dead finds the next revision written
by another, and can commit nothing any more. Redis, which may be lost, is asked for no decision.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress

from redis import RedisError

from worker.artifacts import scratch_folder
from worker.events import Events
from worker.jobs import (
    IllegalMove,
    JobProgress,
    JobRecord,
    JobStatus,
    after_death,
    made_at,
    move,
    now,
)
from worker.leases import Leases
from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

logger = logging.getLogger(__name__)

RECORDS = "jobs/records"
OPEN = "jobs/open"  # a mark for each job that has not ended
REMEMBERED = 10_000  # records
UNWRITTEN_S = 3600  # after which whoever wanted to write a job's first revision is dead


class JobNotFound(LookupError):
    """No job has this id."""


class LeaseLost(RuntimeError):
    """Another attempt owns the job now; whatever this process still holds is stale."""


class Ledger:
    """Job records in storage, their live view in Redis."""

    def __init__(self, storage: Storage, leases: Leases, events: Events) -> None:
        self.storage = storage
        self.leases = leases
        self.events = events
        self._known: dict[str, JobRecord] = {}  # revisions never change

    def create(self, record: JobRecord) -> bool:
        """Write a job's first revision; durable when this returns. False where it has one."""
        # The mark first: a record without one would never be looked after.
        self.storage.put(open_key(record.id), b"")
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
        record = self.read(job_id)
        shown = self.leases.progress(record.held_by) if record.held_by else None
        if shown is None:
            return record
        fields = json.loads(shown)
        fields["progress"] = JobProgress.model_validate(fields["progress"])
        return record.model_copy(update=fields)

    def read(self, job_id: str) -> JobRecord:
        """The newest revision.

        Raises:
            JobNotFound: no such job.
        """
        record = self._known.get(job_id) or self.first(job_id)
        while not record.terminal and (newer := self.after(record)) is not None:
            record = newer
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[job_id] = record
        return record

    def find(self, job_id: str) -> JobRecord | None:
        """The first revision, where there is such a job."""
        return self._revision(job_id, 1)

    def first(self, job_id: str) -> JobRecord:
        """The first revision.

        Raises:
            JobNotFound: no such job.
        """
        record = self.find(job_id)
        if record is None:
            raise JobNotFound(f"no job {job_id}")
        return record

    def after(self, record: JobRecord) -> JobRecord | None:
        """The revision that follows, where there is one."""
        return self._revision(record.id, record.revision + 1)

    def history(self, job_id: str) -> list[JobRecord]:
        """All revisions, oldest first.

        Raises:
            JobNotFound: no such job.
        """
        chain = [self.first(job_id)]
        while (newer := self.after(chain[-1])) is not None:
            chain.append(newer)
        return chain

    def ids(self) -> list[str]:
        """All job ids, newest first."""
        return sorted({key.split("/")[2] for key in self.storage.keys(RECORDS)}, reverse=True)

    def active(self) -> Iterator[JobRecord]:
        """The jobs that have not ended, oldest first."""
        for key in self.storage.keys(OPEN):
            job_id = key.rsplit("/", 1)[-1]
            try:
                record = self.read(job_id)
            except JobNotFound:
                # It is being written, or whoever wanted to write it died before.
                if (now() - made_at(job_id)).total_seconds() > UNWRITTEN_S:
                    self.storage.delete(key)
                continue
            if record.terminal:  # whoever ended it died before it could take the mark away
                self._close(record)
            else:
                yield record

    def claim(self, job_id: str, holder: str) -> JobRecord | None:
        """The right to run a queued job; None when it is not queued, or somebody was faster."""
        record = self.read(job_id)
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
            record = self.read(job_id)
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
        newer = self.after(held)
        if newer is None:
            return held
        if newer.status == "cancelling" and self.after(newer) is None:
            return newer
        raise LeaseLost(f"attempt {held.attempt} of {held.id} is over")

    def _append(self, record: JobRecord) -> JobRecord:
        """Write the next revision; raises ObjectExists where another process was faster."""
        data = record.model_dump_json().encode()
        try:
            self.storage.create(_key(record.id, record.revision), data)
        except ObjectExists:
            # Perhaps it is ours, and only the store's answer was lost.
            if self.storage.read(_key(record.id, record.revision)) != data:
                raise
        self.events.add(record.id, "status", {"status": record.status, "attempt": record.attempt})
        if record.terminal:
            try:
                self._close(record)
            except StorageError:
                logger.warning("job %s has ended; it is tidied up later", record.id)
        return record

    def _close(self, record: JobRecord) -> None:
        self.events.keep(self.storage, record.id)
        self.storage.clear(scratch_folder(record.id))
        self.storage.delete(open_key(record.id))  # last, so that all this is done, or done again

    def _revision(self, job_id: str, number: int) -> JobRecord | None:
        try:
            return JobRecord.model_validate_json(self.storage.read(_key(job_id, number)))
        except ObjectNotFound:
            return None


def _key(job_id: str, revision: int) -> str:
    return f"{RECORDS}/{job_id}/{revision:06d}.json"


def open_key(job_id: str) -> str:
    """Of the mark of a job that has not ended."""
    return f"{OPEN}/{job_id}"
