"""The bodies of requests and answers, where they differ from what is stored."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from models.sample import MAX_SEED
from worker.jobs import JobError, JobProgress, JobRecord
from worker.model_versions import ModelCard
from worker.requests import JobRequest

MAX_SYNCHRONOUS_IMAGES = 64
MAX_SIDE = 1024  # px
MAX_PIXELS = 64 * 512 * 512  # of all images in one answer

Factor = Annotated[float, Field(ge=0, le=4)]
Item = TypeVar("Item")


class Strict(BaseModel):
    """A request body: no unknown fields, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Enhance(Strict):
    """Applied after generation; 1.0 leaves the image as the model made it."""

    sharpness: Factor = 1.0
    contrast: Factor = 1.0
    color: Factor = 1.0
    brightness: Factor = 1.0


class GenerateRequest(Strict):
    """What to generate; `{}` is one image of the service's default model."""

    model: str | None = Field(
        default=None, max_length=140, description="`name`, `name@alias` or `name:version`."
    )
    category: str | None = Field(
        default=None, max_length=200, description="One of the model's; drawn evenly when absent."
    )
    attributes: dict[str, JsonValue] | None = Field(default=None, max_length=32)
    n: int = Field(default=1, ge=1, le=MAX_SYNCHRONOUS_IMAGES)
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Image i has seed + i. Fresh when absent."
    )
    truncation: float = Field(
        default=1.0, gt=0, le=1, description="Below 1: more typical, less varied."
    )
    size: str | None = Field(
        default=None, pattern=r"^[1-9][0-9]{0,3}x[1-9][0-9]{0,3}$", examples=["64x64"]
    )
    background: str | None = None
    output_format: Literal["png", "jpeg", "webp", "avif"] = "png"
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of jpeg, webp and avif; 85 when absent."
    )
    response_format: Literal["b64_json", "url"] = "b64_json"
    enhance: Enhance = Enhance()
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)

    @property
    def side(self) -> int | None:
        """The wanted side of the square image, px; None for the model's own."""
        return None if self.size is None else int(self.size.split("x")[0])

    @model_validator(mode="after")
    def _possible(self) -> "GenerateRequest":
        if self.seed is not None and self.seed + self.n - 1 > MAX_SEED:
            raise ValueError(f"seed: seed + n - 1 must be at most {MAX_SEED}")
        if self.size is not None:
            width, height = self.size.split("x")
            if width != height:
                raise ValueError("size: must be square; products are not distorted")
            if not 16 <= int(width) <= MAX_SIDE:
                raise ValueError(f"size: must be from 16x16 to {MAX_SIDE}x{MAX_SIDE}")
            if int(width) ** 2 * self.n > MAX_PIXELS:
                raise ValueError(f"n: {self.n} images of {self.size} are too many for one answer")
        return self


class GeneratedImage(BaseModel):
    """One image of an answer."""

    index: int
    seed: int
    category: str
    b64_json: str | None
    url: str | None
    sha256: str
    width: int
    height: int


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    queue_ms: float
    compute_ms: float
    encode_ms: float


class GenerateResponse(BaseModel):
    """The images, and what made them."""

    id: str
    model: str
    model_version: int
    data: list[GeneratedImage]
    timing: Timing
    metadata: dict[str, JsonValue] = {}


class JobView(BaseModel):
    """A job as clients see it."""

    id: str
    type: str
    status: str
    stage: str | None
    attempt: int
    queue_position: int | None
    progress: JobProgress
    metrics: dict[str, float]
    result: dict[str, JsonValue] | None
    error: JobError | None
    request: JobRequest
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, record: JobRecord, queue_position: int | None) -> "JobView":
        """The view of a record."""
        path = f"/jobs/{record.id}"
        links = {"self": path, "cancel": f"{path}/cancel", "events": f"{path}/events"}
        links["artifacts"] = f"{path}/artifacts"
        if record.request.webhook is not None:
            links["webhook"] = f"{path}/webhook"
        fields = record.model_dump(exclude={"crashes"})
        return cls.model_validate({**fields, "queue_position": queue_position, "links": links})


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first; the next one is behind `?after={last_id}`."""

    data: list[Item]
    has_more: bool
    last_id: str | None


class Artifact(BaseModel):
    """One file a job has made."""

    name: str
    size_bytes: int
    url: str


class Artifacts(BaseModel):
    """The files a job has made so far."""

    data: list[Artifact]


class VersionSummary(BaseModel):
    """A model version in a list."""

    version: int
    created_at: str
    origin: str
    categories: list[str]
    capabilities: dict[str, JsonValue]

    @classmethod
    def of(cls, card: ModelCard) -> "VersionSummary":
        """The summary of a card."""
        return cls.model_validate(card.model_dump(include=set(cls.model_fields)))


class ModelView(BaseModel):
    """A model: its versions, and where its aliases point."""

    name: str
    versions: list[VersionSummary]
    aliases: dict[str, int]


class AliasTarget(Strict):
    """Where an alias is to point."""

    version: int = Field(ge=1, le=999_999_999)


class Health(BaseModel):
    """The service's state."""

    status: Literal["ok"] = "ok"
