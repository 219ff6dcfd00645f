"""What a job is: the record, and its states."""

import secrets
import time
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, JsonValue

from worker.requests import JobRequest, JobType

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]

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
    """Everything the ledger knows of one job."""

    id: str
    type: JobType
    status: JobStatus = "queued"
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
    if status in TERMINAL:
        changes["finished_at"] = now()
    return record.model_copy(update={"status": status, **changes})


def after_death(record: JobRecord, max_attempts: int) -> JobRecord:
    """The record once the process that ran the job has died: queued again, or ended."""
    crashes = record.crashes + 1
    if record.status == "cancelling":
        return move(record, "cancelled", crashes=crashes, stage=None)
    if crashes >= max_attempts:
        error = JobError(
            code="worker_lost",
            message=f"the process running this job died {crashes} times; it is not tried again",
        )
        return move(record, "failed", crashes=crashes, error=error, stage=None)
    return move(record, "queued", crashes=crashes, attempt=record.attempt + 1)


def now() -> datetime:
    """The present, UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """`prefix_` and 20 characters that sort by time: 10 of milliseconds, 10 random."""
    return f"{prefix}_{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(50), 10)}"


def _base32(value: int, length: int) -> str:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(alphabet[(value >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))
