"""What a client may ask to be told of a job's end, and where."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from worker.receivers import MAX_URL, canonical

JobEnd = Literal["succeeded", "failed", "cancelled"]
JOB_ENDS: tuple[JobEnd, ...] = get_args(JobEnd)


class Webhook(BaseModel):
    """Where a job's end is announced: its `GET /jobs/{id}` is POSTed there, signed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: Annotated[str, Field(min_length=1, max_length=MAX_URL), AfterValidator(canonical)] = Field(
        description="https, at a public address. Redirects are not followed.",
        examples=["https://shop.example/hooks/vitrine"],
        json_schema_extra={"format": "uri"},
    )
    events: Annotated[list[JobEnd], Field(min_length=1, max_length=len(JOB_ENDS))] = Field(
        default_factory=lambda: list(JOB_ENDS), description="The ends that are announced."
    )

    @field_validator("events")
    @classmethod
    def _each_once(cls, events: list[JobEnd]) -> list[JobEnd]:
        if len(set(events)) < len(events):
            raise ValueError("must name each event at most once")
        return events


WebhookField = Annotated[
    Webhook | None,
    Field(description="Told when the job has ended, instead of being asked about it."),
]
