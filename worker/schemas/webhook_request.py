"""Webhook request schema: the URL and the job ends that it is notified of."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import Url

MAX_URL = 2048  # characters
JobEnd = Literal["succeeded", "failed", "cancelled"]
JOB_ENDS: tuple[JobEnd, ...] = get_args(JobEnd)


def canonical(url: str) -> str:
    """The URL in the canonical ASCII form of the WHATWG URL standard.

    The SSRF guard and the HTTP client so see the same host: `http://0x7f.1` becomes
    `http://127.0.0.1/`, and an internationalised name its `xn--` form.

    Raises:
        ValueError: it is no URL that a webhook can be sent to.
    """
    try:
        parts = Url(url)
    except ValueError as error:
        raise ValueError("must be an https:// URL") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("must be an https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password; the signature says who sends")
    if parts.fragment is not None:
        raise ValueError("must have no fragment")
    # Without the trailing dot of an absolute name, which certificates do not have.
    start, host = f"{parts.scheme}://", parts.host
    text = start + host.removesuffix(".") + str(parts).removeprefix(start + host)
    if len(text) > MAX_URL:
        raise ValueError(f"must have at most {MAX_URL} characters")
    return text


WebhookUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL), AfterValidator(canonical)]


class Webhook(BaseModel):
    """Where the end of a job is announced: the body of `GET /jobs/{id}` is POSTed there, signed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: WebhookUrl = Field(
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
