"""Request schemas of a data set's preparation: how its photos are normalised, the prepare job."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from worker.schemas.webhook_request import WebhookField

DatasetId = Annotated[str, StringConstraints(pattern=r"^ds_[0-9a-z]{20}$")]
HexColor = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
Normalise = Literal["studio", "as_is"]
NORMALISE_MEANS = (
    "`studio`: the products cut out, centred and set on one colour, filling 88 % of the square;"
    " photos whose mask is doubtful stay as they are. `as_is`: whole photos, padded to squares."
)

NormaliseField = Annotated[
    Normalise | None,
    Field(description=f"{NORMALISE_MEANS} The data set's default where it is left out."),
]
BackgroundField = Annotated[
    HexColor | None,
    Field(description="Of `studio`; white, `#FFFFFF`, where it is left out.", examples=["#F4F4F4"]),
]


class PrepareJob(BaseModel):
    """Find the products in a data set's photos: masks, colours, and a sheet to look at.

    It is done once; a training with `"normalise": "studio"` does it first where it is not yet.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dataset: DatasetId
    webhook: WebhookField = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict, max_length=32)
