"""Pydantic models of request and response bodies, where they differ from stored records."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from models.inference.sample import MAX_SEED
from worker.queue.queue_position import QueuePosition
from worker.registry.model_versions import ModelCard
from worker.schemas.image_options import Category, ImageOptions
from worker.schemas.jobs import JobError, JobProgress, JobRecord
from worker.schemas.requests import BULK_FILES, MAX_BULK_IMAGES, JobRequest, QueueName

DATASET_VIEWS = ("preview", "attributes")
MAX_SYNCHRONOUS_IMAGES = 64
MAX_PIXELS = 64 * 512 * 512  # of all images in one answer

Item = TypeVar("Item")
Body = TypeVar("Body", bound=BaseModel)


def _spelled(synonym: str) -> str:
    """The synonym as it is stored: NFC, with single spaces."""
    if not any(character.isalnum() for character in synonym):
        raise ValueError("must have a letter or a figure")
    return unicodedata.normalize("NFC", " ".join(synonym.split()))


# The length first: normalising a long run of combining marks takes quadratic time.
Synonym = Annotated[str, StringConstraints(max_length=60), AfterValidator(_spelled)]
SynonymsByCategory = Annotated[
    dict[Category, Annotated[list[Synonym], Field(max_length=50)]], Field(max_length=1000)
]


class Strict(BaseModel):
    """A request body: no unknown fields, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def derived(kind: type[Body], fields: Mapping[str, object]) -> Body:
    """Build a body of another model from the fields of one that was sent.

    Raises:
        RequestValidationError: the fields are invalid, as if they had been sent as this body.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        items = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(items) from error


class GenerateRequest(ImageOptions):
    """What to generate; `{}` is one image of the service's default model."""

    n: int = Field(
        default=1,
        ge=1,
        le=MAX_BULK_IMAGES,
        description=f"At most {MAX_SYNCHRONOUS_IMAGES}, or more with `Prefer: respond-async`.",
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Image i has seed + i. Fresh when absent."
    )
    response_format: Literal["b64_json", "url"] = "b64_json"

    @property
    def wanted(self) -> dict[str, int] | int:
        """Number of images by category; a plain number is spread over all categories."""
        return self.n if self.category is None else {self.category: self.n}

    @model_validator(mode="after")
    def _possible(self) -> "GenerateRequest":
        if self.seed is not None and self.seed + self.n - 1 > MAX_SEED:
            raise ValueError(f"seed: seed + n - 1 must be at most {MAX_SEED}")
        if (self.side or 0) ** 2 * min(self.n, MAX_SYNCHRONOUS_IMAGES) > MAX_PIXELS:
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
    category_probability: float | None = Field(
        default=None, description="With `min_category_probability` alone."
    )
    rejected_seeds: list[int] | None = Field(
        default=None,
        description="With it alone: seeds tried before `seed`, the first of them the image's own.",
    )


class Timing(BaseModel):
    """Duration of each stage in milliseconds."""

    queue_ms: float
    compute_ms: float
    encode_ms: float


class GenerateResponse(BaseModel):
    """The images, and the model version that generated them."""

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
    queue_position: int | None = Field(
        description="Jobs before it in its queue; null once it has started. Bulk generation has a"
        " queue of its own beside that of trainings and searches."
    )
    queue_eta_s: int | None = Field(
        description="About when a queued job starts, in seconds: estimated from the jobs that run"
        " and wait before it, which are taken to last as long as their type lately did. Null where"
        " that cannot be told, as before the first job of a type has succeeded."
    )
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
    def of(cls, record: JobRecord, position: QueuePosition | None) -> "JobView":
        """The view of a record."""
        path = f"/jobs/{record.id}"
        links = {"self": path, "cancel": f"{path}/cancel", "events": f"{path}/events"}
        links["artifacts"] = f"{path}/artifacts"
        if record.request.webhook is not None:
            links["webhook"] = f"{path}/webhook"
        fields = record.model_dump(exclude={"crashes"})
        if record.result is not None:
            fields["result"] = record.result | {"links": _result_links(record.id, record.result)}
        fields["queue_position"] = None if position is None else position.before
        fields["queue_eta_s"] = None if position is None else position.eta_s
        return cls.model_validate({**fields, "links": links})


def _result_links(job_id: str, result: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Where the results of a job are: its data set, or its version's files and images."""
    links: dict[str, JsonValue]
    if "dataset" in result:
        dataset = f"/datasets/{result['dataset']}"
        links = {"dataset": dataset, **{name: f"{dataset}/{name}" for name in DATASET_VIEWS}}
        if result.get("preparation") is not None:
            links["preparation"] = f"/jobs/{result['preparation']}"
        return links
    version = f"/models/{result['model']}/versions/{result['version']}"
    links = {"version": version}
    links |= {kind: f"{version}/{kind}" for kind in ("samples", "weights")}
    if isinstance(files := result.get("files"), list):  # of a version that the job has made
        links |= {str(file): f"{version}/files/{file}" for file in files}
    if "generated" in result:
        artifacts = f"/jobs/{job_id}/artifacts"
        links |= {kind: f"{artifacts}/{name}" for kind, name in BULK_FILES.items()}
    return links


class Page(BaseModel, Generic[Item]):
    """One page of a list; `?after={last_id}` requests the next one."""

    data: list[Item]
    has_more: bool
    last_id: str | None


class Artifact(BaseModel):
    """One file that a job has produced."""

    name: str
    size_bytes: int
    url: str


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


class ModelDetails(ModelView):
    """A model, and the words that name its categories in a prompt, beside their own names."""

    synonyms: dict[str, list[str]]


class AliasTarget(Strict):
    """The version that an alias shall point to."""

    version: int = Field(ge=1, le=999_999_999)


class Health(BaseModel):
    """The service's state."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """The state of a service that is ready."""

    workers: dict[QueueName, int] = Field(
        description="Living workers that serve each queue. With none, its jobs wait."
    )
