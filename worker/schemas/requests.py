"""Request schemas of the job types that make models or images; the union of all types."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from worker.schemas.dataset_import import ImportJob
from worker.schemas.image_options import Category, ImageOptions, OutputFormat
from worker.schemas.preparation import BackgroundField, DatasetId, NormaliseField, PrepareJob
from worker.schemas.training_options import CollapseRemedies, FromJob
from worker.schemas.webhook_request import WebhookField

JobType = Literal["train", "nas", "generate", "prepare", "import"]
QueueName = Literal["generate", "train"]
QUEUES: tuple[QueueName, ...] = get_args(QueueName)
QUEUE_OF: dict[JobType, QueueName] = {
    "train": "train",
    "nas": "train",
    "generate": "generate",
    # Minutes, which nobody waits for behind hours of training.
    "prepare": "generate",
    "import": "generate",
}
# A copy of the type in `models.search.trials`, which imports torch; the supervisor must not.
Metric = Literal["kid", "latency_ms", "parameters"]
METRICS: tuple[Metric, ...] = get_args(Metric)

MAX_BULK_IMAGES = 100_000
# Files of a generate job beside its images.
BULK_FILES = {
    "zip": "generated.zip",
    "manifest": "generated.jsonl",
    "sheet": "generated.png",
}
MAX_BULK_PIXELS = MAX_BULK_IMAGES * 512 * 512

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class TrainJob(BaseModel):
    """Train a class-conditional GAN on a data set and register it as a new model version."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dataset: DatasetId
    model: ModelName
    resolution: Literal[28, 32, 64, 128] = 64
    preset: Literal["fast", "balanced", "best"] = "balanced"
    architecture: FromJob | None = Field(
        default=None,
        description="A search's winner, at the resolution that it was searched at, in place of the"
        " preset's own networks and recipe.",
    )
    loss: Literal["classic", "hinge", "relativistic"] | None = Field(
        default=None, description="Adversarial loss; the preset's own where it is left out."
    )
    max_images: Annotated[int, Field(ge=1, le=50_000_000)] = 500_000
    max_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=3600,
        description="For the whole job while it runs, evaluation and registration included; the"
        " training gets what they leave, and takes a step at least.",
    )
    batch_size: Annotated[int, Field(ge=2, le=512)] | None = Field(
        default=None, description="The preset's own where it is left out."
    )
    augment_p: Annotated[float, Field(ge=0, le=0.8)] | None = Field(
        default=None,
        description="Probability of each augmentation inside the discriminator; where it is left"
        " out, growing from 0 to 0.3 for small data sets and 0 for large ones.",
    )
    normalise: NormaliseField = None
    background: BackgroundField = None
    flip: bool = Field(default=True, description="Mirror half of the photos while training.")
    balanced: bool = Field(default=True, description="Show every category equally often.")
    remedies: CollapseRemedies = CollapseRemedies()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    promote: AliasName | None = Field(
        default=None,
        description="Point this alias at the new version when it is registered, unless it has"
        " collapsed, lacks a category that the alias's present version serves, or is worse than"
        " that version against the same held-out photos; the result says which.",
    )
    promote_force: bool = Field(default=False, description="Promote the version in any case.")
    webhook: WebhookField = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)

    # The fields that override the preset's recipe; they have the same names there.
    RECIPE: ClassVar = {
        *("loss", "max_images", "max_seconds", "batch_size", "augment_p", "flip", "balanced"),
        *("remedies", "seed"),
    }

    @model_validator(mode="after")
    def _at_least_one_batch(self) -> "TrainJob":
        if self.batch_size is not None and self.max_images < self.batch_size:
            raise ValueError("max_images must be at least batch_size")
        return self


class Objective(BaseModel):
    """A metric that a search minimises, and the upper limit that its winner must keep."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    metric: Metric
    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="In ms for one image on the worker, or generator parameters."
    )


class GenerateAfterwards(BaseModel):
    """Images to make with the new model, as files of the job."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    n: Annotated[int, Field(ge=1, le=256)] = 16
    category: Category | None = Field(
        default=None, description="One of the data set's; all in turn where it is left out."
    )
    seed: Annotated[int, Field(ge=0, lt=2**62)] = Field(
        default=0, description="Image i has seed + i."
    )
    truncation: Annotated[float, Field(gt=0, le=1)] = 1.0
    output_format: OutputFormat = "png"


class NasJob(BaseModel):
    """Search for a better generator and discriminator, train the best, and register it.

    Half of the time that preparation and evaluation leave goes to the search; in the other half its
    `finalists` best candidates and the preset are trained on all photos, `final_seeds` times each,
    and the best is registered.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dataset: DatasetId
    model: ModelName
    resolution: Literal[28, 32, 64, 128] = 64
    preset: Literal["fast", "balanced", "best"] = Field(
        default="balanced", description="Where the search starts, and what it must beat."
    )
    max_trials: Annotated[int, Field(ge=1, le=1000)] = 40
    max_seconds: Annotated[int, Field(ge=1, le=604_800)] = Field(
        default=3600, description="For the whole job while it runs, from the photos to the model."
    )
    parallel_trials: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Workers that take part, where so many are free."
    )
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=len(METRICS))] = Field(
        default_factory=lambda: [Objective(metric=metric) for metric in METRICS]
    )
    strategy: Literal["evolution", "tpe", "random"] = Field(
        default="evolution",
        description="How candidates are proposed: `evolution` learns from all trainings so far what"
        " promises most, near the best ones and elsewhere; `random` is the control.",
    )
    search_space: dict[str, list[str | float | int | bool]] | None = Field(
        default=None,
        max_length=32,
        description='What candidates may choose, by name, such as `{"family": ["dcgan"]}`; the'
        " error for an unknown name lists all. Whatever is left out is open.",
    )
    finalists: Annotated[int, Field(ge=1, le=8)] = 2
    final_seeds: Annotated[int, Field(ge=1, le=5)] = 2
    normalise: NormaliseField = None
    background: BackgroundField = None
    flip: bool = Field(default=True, description="Mirror half of the photos while training.")
    balanced: bool = Field(default=True, description="Show every category equally often.")
    generate: GenerateAfterwards | None = Field(
        default=None, description="Generate with the registered model before the job ends."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    promote: AliasName | None = Field(
        default=None,
        description="Point this alias at the new version when it is registered, unless it has"
        " collapsed, lacks a category that the alias's present version serves, or is worse than"
        " that version against the same held-out photos; the result says which.",
    )
    promote_force: bool = Field(default=False, description="Promote the version in any case.")
    webhook: WebhookField = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)

    @model_validator(mode="after")
    def _possible(self) -> "NasJob":
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError("objectives: each metric at most once")
        if "kid" not in metrics:
            raise ValueError("objectives: kid must be among them")
        if any(each.metric == "kid" and each.limit is not None for each in self.objectives):
            raise ValueError("objectives: kid takes no limit; it is made as small as can be")
        return self


Count = Annotated[int, Field(ge=1, le=MAX_BULK_IMAGES)]


class GenerateJob(ImageOptions):
    """Generate many images: a file each, a zip of them all, a manifest and a contact sheet.

    Either `n`, with or without one `category`, or `categories` with a number for each.
    """

    n: Count | None = None
    categories: dict[Category, Count] | None = Field(
        default=None, min_length=1, max_length=1000, description="How many of each category."
    )
    seed: Annotated[int, Field(ge=0, lt=2**62)] | None = Field(
        default=None, description="Image i has seed + i. Fresh when absent."
    )

    webhook: WebhookField = None

    @property
    def images(self) -> int:
        """Total number of images."""
        return self.n or sum((self.categories or {}).values())

    @property
    def wanted(self) -> dict[str, int] | int:
        """Number of images by category, or one total for all categories in turn."""
        if self.category is not None:
            return {self.category: self.images}
        return self.categories or self.images

    @model_validator(mode="after")
    def _one_way(self) -> "GenerateJob":
        if (self.n is None) == (self.categories is None):
            raise ValueError("n: give either n or categories")
        if self.category is not None and self.categories is not None:
            raise ValueError("category: give either category or categories")
        if self.images > MAX_BULK_IMAGES:
            raise ValueError(f"categories: at most {MAX_BULK_IMAGES} images in all")
        if self.images * (self.side or 0) ** 2 > MAX_BULK_PIXELS:
            raise ValueError(f"size: {self.images} images of {self.size} are too many for one job")
        return self


JobRequest = TrainJob | NasJob | GenerateJob | PrepareJob | ImportJob
