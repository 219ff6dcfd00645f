"""What a job is: the request of each type, the record, and its states."""

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
JobType = Literal["train"]

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

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9a-z]{20}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-z]{20}$")]


class CollapseRemedies(BaseModel):
    """Remedies of mode collapse, all off by default: for a training whose alarm rings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = Field(
        default=0.0, description="Largest norm of each network's gradient; 0 clips nothing."
    )
    discriminator_steps: Annotated[int, Field(ge=1, le=5)] = Field(
        default=1, description="Discriminator steps a generator step, reached after 200,000 images."
    )
    instance_noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Standard deviation of noise on all images that the discriminator sees, gone"
        " after 200,000 of them; black to white is 2.",
    )
    dynamic_lr: bool = Field(
        default=False, description="Slow the learning of whichever network is far ahead."
    )


class TrainJob(BaseModel):
    """Train a class-conditional GAN on a data set and register it as a new model version."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dataset: DatasetId
    model: ModelName
    resolution: Literal[28, 32, 64, 128] = 64
    preset: Literal["fast", "balanced", "best"] = "balanced"
    loss: Literal["classic", "hinge", "relativistic"] | None = Field(
        default=None, description="Adversarial loss; the preset's own where it is left out."
    )
    max_images: Annotated[int, Field(ge=1, le=50_000_000)] = 500_000
    max_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3600
    batch_size: Annotated[int, Field(ge=2, le=512)] | None = Field(
        default=None, description="The preset's own where it is left out."
    )
    augment_p: Annotated[float, Field(ge=0, le=0.8)] | None = Field(
        default=None,
        description="Probability of each augmentation inside the discriminator; where it is left"
        " out, growing from 0 to 0.3 for small data sets and 0 for large ones.",
    )
    flip: bool = Field(default=True, description="Mirror half of the photos while training.")
    balanced: bool = Field(default=True, description="Show every category equally often.")
    remedies: CollapseRemedies = CollapseRemedies()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    promote: AliasName | None = Field(
        default=None, description="Point this alias at the new version when it is registered."
    )
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)

    # The fields that change the preset's recipe, by the names that it gives them.
    RECIPE: ClassVar = {
        *("loss", "max_images", "max_seconds", "batch_size", "augment_p", "flip", "balanced"),
        *("remedies", "seed"),
    }

    @model_validator(mode="after")
    def _at_least_one_batch(self) -> "TrainJob":
        if self.batch_size is not None and self.max_images < self.batch_size:
            raise ValueError("max_images must be at least batch_size")
        return self


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
    request: TrainJob
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
