"""The durable record of every job, and who may change it.

The record lies in object storage; Redis holds what may be lost: the lease of the process that runs
a job, its live progress, and the lock around each transition. The attempt number is the fencing
token: who held an earlier attempt can commit nothing any more.
"""

import json
import logging
from collections.abc import Iterator

from pydantic import JsonValue
from redis import Redis, RedisError
from redis.lock import Lock

from worker.jobs import JobError, JobProgress, JobRecord, JobStatus, after_death, move, new_id, now
from worker.requests import JobRequest, JobType
from worker.storage import ObjectNotFound, Storage, StorageError

logger = logging.getLogger(__name__)

LOCK_S = 10  # longer than any transition takes
ACTIVE = "vitrine:active"  # ids of the jobs that have not ended


class JobNotFound(LookupError):
    """No job has this id."""


class LeaseLost(RuntimeError):
    """Another attempt owns the job now; whatever this process still holds is stale."""


class Ledger:
    """Job records in storage, their live view in Redis."""

    def __init__(self, storage: Storage, redis: Redis, lease_s: float) -> None:
        self.storage = storage
        self.redis = redis
        self.lease_ms = int(lease_s * 1000)

    def create(self, job_type: JobType, request: JobRequest) -> JobRecord:
        """A new, queued job; durable when this returns."""
        record = JobRecord(id=new_id("job"), type=job_type, request=request, created_at=now())
        # Before the record: were Redis away after it, a job would run that the client was refused.
        self.redis.sadd(ACTIVE, record.id)
        try:
            self.storage.create(_key(record.id), record.model_dump_json().encode())
        except StorageError:
            self.redis.srem(ACTIVE, record.id)
            raise
        return record

    def fetch(self, job_id: str) -> JobRecord:
        """The record, with the live progress of a running job.

        Raises:
            JobNotFound: no such job.
        """
        record = self.read(job_id)
        if record.status not in ("running", "cancelling"):
            return record
        live = self.redis.get(_live_key(job_id))
        if not live:
            return record
        fields = json.loads(live)
        fields["progress"] = JobProgress.model_validate(fields["progress"])
        return record.model_copy(update=fields)

    def read(self, job_id: str) -> JobRecord:
        """The record as it is in storage.

        Raises:
            JobNotFound: no such job.
        """
        try:
            return JobRecord.model_validate_json(self.storage.read(_key(job_id)))
        except ObjectNotFound as error:
            raise JobNotFound(f"no job {job_id}") from error

    def ids(self) -> list[str]:
        """All job ids, newest first."""
        names = (key.rsplit("/", 1)[-1] for key in self.storage.keys("jobs/records"))
        return sorted((name.removesuffix(".json") for name in names), reverse=True)

    def active(self) -> Iterator[JobRecord]:
        """The jobs that have not ended, oldest first."""
        for job_id in sorted(str(member) for member in self.redis.smembers(ACTIVE)):
            try:
                record = self.read(job_id)
            except JobNotFound:
                continue  # its record is being written, or whoever wrote it died before
            if record.terminal:  # whoever ended it died before it could take it off the list
                self.redis.srem(ACTIVE, job_id)
            else:
                yield record

    def rebuild(self) -> None:
        """Fill Redis's list of active jobs from storage, as after Redis was wiped."""
        for job_id in self.ids():
            if not self.read(job_id).terminal:
                self.redis.sadd(ACTIVE, job_id)

    def claim(self, job_id: str) -> "Claim | None":
        """The right to run a queued job; None when it is not queued, or somebody runs it."""
        with self._lock(job_id):
            record = self.read(job_id)
            if record.status != "queued":
                return None
            record = self._write(move(record, "running", started_at=record.started_at or now()))
            self.redis.set(_lease_key(job_id), record.attempt, px=self.lease_ms)
        return Claim(self, record)

    def cancel(self, job_id: str) -> JobRecord:
        """End a queued job, ask a running one to stop. Cancelling twice is no error.

        Raises:
            JobNotFound: no such job.
            IllegalMove: it has ended already.
        """
        with self._lock(job_id):
            record = self.read(job_id)
            if record.status == "cancelling":
                return record
            status: JobStatus = "cancelled" if record.status == "queued" else "cancelling"
            return self._write(move(record, status))

    def is_leased(self, job_id: str) -> bool:
        """Whether a process has shown within the lease's time that it works on the job."""
        return bool(self.redis.exists(_lease_key(job_id)))

    def lease(self, name: str) -> None:
        """Show that the process of this name lives; jobs are leased by `claim` and `renew`."""
        self.redis.set(_lease_key(name), 1, px=self.lease_ms)

    def drop_lease(self, job_id: str) -> None:
        """Declare the process that ran the job dead before its lease runs out."""
        self.redis.delete(_lease_key(job_id))

    def release_dead(self, job_id: str, max_attempts: int) -> JobRecord:
        """What becomes of a job whose process died: queued again, or ended.

        One that has ended, or that a live process leases, is left as it is.
        """
        with self._lock(job_id):
            record = self.read(job_id)
            if record.terminal or self.is_leased(job_id):
                return record
            return self._write(after_death(record, max_attempts))

    def renew(self, record: JobRecord) -> None:
        """Extend the lease of the process that runs `record`, and show how far it is."""
        live = record.model_dump_json(include={"stage", "progress", "metrics"})
        self.redis.set(_live_key(record.id), live)
        self.redis.set(_lease_key(record.id), record.attempt, px=self.lease_ms)

    def commit(self, held: JobRecord, status: JobStatus, **changes: object) -> JobRecord:
        """Move a job on behalf of the attempt in `held`, with the progress it has reported.

        Raises:
            LeaseLost: another attempt owns the job.
        """
        with self._lock(held.id):
            current = self.owned(held)
            record = held.model_copy(update={"status": current.status, "crashes": current.crashes})
            record = self._write(move(record, status, **changes))
            self.redis.delete(_lease_key(held.id), _live_key(held.id))
        return record

    def owned(self, held: JobRecord) -> JobRecord:
        """The present record of a job that the attempt in `held` still owns.

        Raises:
            LeaseLost: it does not.
        """
        current = self.read(held.id)
        if current.attempt != held.attempt or current.status not in ("running", "cancelling"):
            raise LeaseLost(f"attempt {held.attempt} of {held.id} is over")
        return current

    def _write(self, record: JobRecord) -> JobRecord:
        self.storage.put(_key(record.id), record.model_dump_json().encode())
        if record.terminal:
            self.redis.srem(ACTIVE, record.id)
        return record

    def _lock(self, job_id: str) -> Lock:
        return Lock(self.redis, f"vitrine:lock:{job_id}", LOCK_S, blocking_timeout=LOCK_S)


class Claim:
    """One attempt's hold on its job: it reports, and commits under the fence."""

    def __init__(self, ledger: Ledger, record: JobRecord) -> None:
        self.ledger = ledger
        self.record = record

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Show where the job stands, and that it lives. Redis away is no reason to stop."""
        changes = {"stage": stage, "progress": progress, "metrics": metrics}
        self.record = self.record.model_copy(update=changes)
        try:
            self.ledger.renew(self.record)
        except RedisError:
            logger.warning("Redis is away: the progress of %s is not shown", self.record.id)

    def cancel_requested(self) -> bool:
        """Whether a client has asked the job to stop.

        Raises:
            LeaseLost: the job has gone to another attempt, or has ended.
        """
        return self.ledger.owned(self.record).status == "cancelling"

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


def _key(job_id: str) -> str:
    return f"jobs/records/{job_id}.json"


def _lease_key(job_id: str) -> str:
    return f"vitrine:lease:{job_id}"


def _live_key(job_id: str) -> str:
    return f"vitrine:live:{job_id}"
