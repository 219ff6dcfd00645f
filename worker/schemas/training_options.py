"""Request schemas of options that a train job has."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

JobId = Annotated[str, StringConstraints(pattern=r"^job_[0-9a-z]{20}$")]


class CollapseRemedies(BaseModel):
    """Remedies against mode collapse, all off by default; for when the metric `collapsed` is 1."""

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


class FromJob(BaseModel):
    """The search job that an architecture is taken from."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    from_job: JobId = Field(description="A `nas` job that has succeeded.")
