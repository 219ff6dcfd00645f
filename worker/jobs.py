"""What a job is: the record, and its states."""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, JsonValue

from worker.requests import JobRequest, JobType

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
BACKOFF = timedelta(seconds=10)
LONGEST_BACKOFF = timedelta(minutes=10)

TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

# The only moves a job can make.
MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    # To itself or to failed where the process died before it could claim the job.
    "queued": frozenset({"running", "cancelled", "queued", "failed"}),
    "running": frozenset({"queued", "cancelling", "succeeded", "failed"}),
    "cancelling": frozenset({"cancelled", "succeeded", "failed"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class JobProgress(BaseModel):
    """How far a job is. `total` and `eta_s` are estimates while a time limit bounds it."""

    step: int = 0
    total: int | None = None
    percent: float = 0.0
    eta_s: int | None = None


class JobError(BaseModel):
    """Why a job failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


class JobRecord(BaseModel):
    """Everything the ledger knows of one job, as of one of its transitions."""

    id: str
    type: JobType
    revision: int = 1  # transitions so far
    status: JobStatus = "queued"
    moved_at: datetime
    held_by: str | None = None  # the delivery whose process runs it
    not_before: datetime | None = None  # of the next attempt
    stage: str | None = None
    attempt: int = 1
    crashes: int = 0  # processes that died under it; a clean hand-over is not one
    progress: JobProgress = JobProgress()
    metrics: dict[str, float] = {}
    result: dict[str, JsonValue] | None = None
    error: JobError | None = None
    request: JobRequest
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @classmethod
    def new(cls, job_type: JobType, request: JobRequest, job_id: str | None = None) -> "JobRecord":
        """The first revision of a job."""
        moment = now()
        return cls(
            id=job_id or new_id("job"),
            type=job_type,
            request=request,
            created_at=moment,
            moved_at=moment,
        )

    @property
    def is_due(self) -> bool:
        """Whether the next attempt need not wait any longer."""
        return self.not_before is None or self.not_before <= now()

    @property
    def is_running(self) -> bool:
        """Whether a process works on it, or did when it was last heard of."""
        return self.status in ("running", "cancelling")

    @property
    def terminal(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.status in TERMINAL


class IllegalMove(ValueError):
    """A job cannot go from where it is to the wanted status."""


def move(record: JobRecord, status: JobStatus, **changes: object) -> JobRecord:
    """The record after a transition.

    Raises:
        IllegalMove: `MOVES` does not have it.
    """
    if status not in MOVES[record.status]:
        raise IllegalMove(f"a {record.status} job cannot become {status}")
    moved_at = now()
    if status in TERMINAL:
        changes["finished_at"] = moved_at
    if status not in ("running", "cancelling"):
        changes["held_by"] = None
    changes |= {"status": status, "revision": record.revision + 1, "moved_at": moved_at}
    return record.model_copy(update=changes)


def after_death(record: JobRecord, max_attempts: int) -> JobRecord:
    """The record once the process that ran the job has died: queued again, or ended.

    From the second death on, the next attempt waits, each time twice as long.
    """
    crashes = record.crashes + 1
    if record.status == "cancelling":
        return move(record, "cancelled", crashes=crashes, stage=None)
    if crashes >= max_attempts:
        error = JobError(
            code="worker_lost",
            message=f"the process running this job died or hung {crashes} times; it is not tried"
            " again. Where memory ran out, a smaller request may do",
        )
        return move(record, "failed", crashes=crashes, error=error, stage=None)
    pause = BACKOFF * 2 ** (crashes - 2) if crashes > 1 else timedelta(0)
    return move(
        record,
        "queued",
        crashes=crashes,
        attempt=record.attempt + 1,
        not_before=now() + min(pause, LONGEST_BACKOFF),
    )


def now() -> datetime:
    """The present, UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """`prefix_` and 20 characters that sort by time: 10 of milliseconds, 10 random."""
    return f"{prefix}_{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(50), 10)}"


def made_at(some_id: str) -> datetime:
    """When `new_id` made it."""
    milliseconds = 0
    for character in some_id.rsplit("_", 1)[-1][:10]:
        milliseconds = 32 * milliseconds + ALPHABET.index(character)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _base32(value: int, length: int) -> str:
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))
