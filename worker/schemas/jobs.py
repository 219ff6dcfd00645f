"""Job record and its state machine; ids that sort by time."""

import hashlib
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, JsonValue

from worker.schemas.dataset_import import ImportJob
from worker.schemas.preparation import PrepareJob
from worker.schemas.requests import JobRequest, JobType

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
BACKOFF = timedelta(seconds=10)
LONGEST_BACKOFF = timedelta(minutes=10)

RUNNING: frozenset[JobStatus] = frozenset({"running", "cancelling"})
TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

# The transitions of the state machine.
MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    # To `queued` or `failed` when the process died before it claimed the job.
    "queued": frozenset({"running", "cancelled", "queued", "failed"}),
    "running": frozenset({"queued", "cancelling", "succeeded", "failed"}),
    "cancelling": frozenset({"cancelled", "succeeded", "failed"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class JobProgress(BaseModel):
    """Progress of a job. `total` and `eta_s` are estimates if a time limit may end it first."""

    step: int = 0
    total: int | None = None
    percent: float = 0.0
    eta_s: int | None = None


class JobError(BaseModel):
    """Why a job failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


class JobRecord(BaseModel):
    """One revision of a job's record: its state after one of its transitions."""

    id: str
    type: JobType
    revision: int = 1  # number of this revision, counted from 1
    status: JobStatus = "queued"
    moved_at: datetime
    held_by: str | None = None  # id of the delivery whose process runs it
    not_before: datetime | None = None  # earliest start of the next attempt
    stage: str | None = None
    attempt: int = 1
    crashes: int = 0  # processes that died while they ran it; a hand-back does not count
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
    def model(self) -> str | None:
        """Name of the model that the job makes or generates with; None: the default, or none."""
        if isinstance(self.request, PrepareJob | ImportJob) or self.request.model is None:
            return None
        return re.split("[:@]", self.request.model)[0]

    @property
    def is_due(self) -> bool:
        """Whether the next attempt may start now."""
        return self.not_before is None or self.not_before <= now()

    @property
    def is_running(self) -> bool:
        """Whether a process owns the job; it may have died since."""
        return self.status in RUNNING

    @property
    def terminal(self) -> bool:
        """Whether the job has ended: there are no further transitions."""
        return self.status in TERMINAL


class IllegalMove(ValueError):
    """`MOVES` has no transition from the job's status to the requested one."""


def move(record: JobRecord, status: JobStatus, **changes: object) -> JobRecord:
    """The record after a transition to `status`, with `changes` applied.

    Raises:
        IllegalMove: `MOVES` has no such transition.
    """
    if status not in MOVES[record.status]:
        raise IllegalMove(f"a {record.status} job cannot become {status}")
    moved_at = now()
    if status in TERMINAL:
        changes["finished_at"] = moved_at
    if status not in RUNNING:
        changes["held_by"] = None
    changes |= {"status": status, "revision": record.revision + 1, "moved_at": moved_at}
    return record.model_copy(update=changes)


def after_death(record: JobRecord, max_attempts: int) -> JobRecord:
    """The record once the process that ran the job has died: queued again, or ended.

    From the second death on, the next attempt waits: 10 s, doubling each time, at most 10 minutes.
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
    """The current time, UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """`prefix_` and 20 characters that sort by time: 10 of milliseconds, 10 random."""
    return f"{prefix}_{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(50), 10)}"


def derived_id(prefix: str, some_id: str) -> str:
    """An id that follows from another one: of its time, and 10 characters of a hash."""
    digest = hashlib.sha256(f"{prefix} of {some_id}".encode()).digest()
    moment = some_id.rsplit("_", 1)[-1][:10]
    return f"{prefix}_{moment}{_base32(int.from_bytes(digest[:8]), 10)}"


def made_at(some_id: str) -> datetime:
    """The time at which `new_id` made the id."""
    milliseconds = 0
    for character in some_id.rsplit("_", 1)[-1][:10]:
        milliseconds = 32 * milliseconds + ALPHABET.index(character)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def is_id(prefix: str, name: str) -> bool:
    """Whether `new_id(prefix)` makes such ids; object storage may hold files with other names."""
    try:
        made_at(name)
    except (ValueError, OverflowError):
        return False
    return re.fullmatch(rf"{prefix}_[0-9a-z]{{20}}", name) is not None


def first_id_at(prefix: str, moment: datetime) -> str:
    """A string that sorts before every id that `new_id` makes at this moment or later."""
    return f"{prefix}_{_base32(int(1000 * moment.timestamp()), 10)}"


def _base32(value: int, length: int) -> str:
    return "".join(ALPHABET[(value >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))
