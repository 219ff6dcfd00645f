"""Request schema of image options, shared by `POST /generate` and generate jobs."""

import unicodedata
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

MAX_SIDE = 1024  # px

Factor = Annotated[float, Field(ge=0, le=4)]
Side = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}x[1-9][0-9]{0,3}$", examples=["64x64"])]
# In the form in which the names of folders are stored: the same letters have one spelling.
# The length first: normalising a long run of combining marks takes quadratic time.
Category = Annotated[
    str,
    StringConstraints(max_length=200),
    AfterValidator(lambda text: unicodedata.normalize("NFC", text)),
]
OutputFormat = Literal["png", "jpeg", "webp", "avif"]


class Enhance(BaseModel):
    """Applied after generation; 1.0 leaves the image as the model made it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sharpness: Factor = 1.0
    contrast: Factor = 1.0
    color: Factor = 1.0
    brightness: Factor = 1.0


class ImageOptions(BaseModel):
    """The fields that generate jobs and `POST /generate` requests share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str | None = Field(
        default=None, max_length=140, description="`name`, `name@alias` or `name:version`."
    )
    category: Category | None = Field(
        default=None,
        description="One of the model's, in upper or lower case, with or without accents; drawn"
        " evenly when absent.",
    )
    attributes: dict[str, JsonValue] | None = Field(default=None, max_length=32)
    truncation: float = Field(
        default=1.0, gt=0, le=1, description="Below 1: more typical, less varied."
    )
    min_category_probability: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Reject images that show their category less surely, as the model's classifier"
        " judges, and try up to 15 further seeds for each.",
    )
    size: Side | None = None
    background: str | None = None
    output_format: OutputFormat = "png"
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of jpeg, webp and avif; 85 when absent."
    )
    enhance: Enhance = Enhance()
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)

    @property
    def side(self) -> int | None:
        """Requested side of the square image in pixels; None for the model's own."""
        return None if self.size is None else int(self.size.split("x")[0])

    @model_validator(mode="after")
    def _square(self) -> "ImageOptions":
        if self.size is not None:
            width, height = self.size.split("x")
            if width != height:
                raise ValueError("size: must be square; products are not distorted")
            if not 16 <= int(width) <= MAX_SIDE:
                raise ValueError(f"size: must be from 16x16 to {MAX_SIDE}x{MAX_SIDE}")
        return self
