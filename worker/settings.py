"""Settings of the API and the workers, read from environment variables `VITRINE_…`."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.schemas.requests import QUEUES, QueueName
from worker.webhooks.signing import parse_secrets

MIB, GIB = 2**20, 2**30

LogFormat = Literal["text", "json"]


class Settings(BaseSettings):
    """Settings of this process; each field is the environment variable `VITRINE_` + its name."""

    # Compose passes an empty string for a variable that is not set.
    model_config = SettingsConfigDict(
        env_prefix="VITRINE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    redis_url: str | None = Field(
        default=None,
        pattern="^(rediss?|unix)://",
        description="redis://, rediss:// or unix://; unset: embedded mode",
    )
    storage_url: str | None = Field(
        default=None, description="file://, s3://, gs:// or az://; unset: embedded mode"
    )
    public_storage_url: str | None = Field(
        default=None,
        pattern="^(none|https?://[^/?#]+/?)$",
        description="address by which clients reach an s3:// store, for links to images and direct"
        " uploads; none: they cannot, and links lead to the API; unset: as this service does",
    )
    data_dir: Path = Field(default=Path(".vitrine"), description="embedded mode's data")
    host: str = Field(default="127.0.0.1", description="address the API listens on")
    port: int = Field(default=8000, ge=1, le=65_535, description="port the API listens on")
    allowed_hosts: str = Field(
        default="",
        description="names in Host that are answered, comma-separated, *.example.com for all below"
        " one; unset: loopback's without keys, any with keys; /health/ answers to any",
    )
    forwarded_allow_ips: str = Field(
        default="",
        description="addresses and networks of proxies whose X-Forwarded-For and -Proto count,"
        " comma-separated, or *; unset: of none",
    )
    api_processes: int = Field(
        default=1, ge=1, le=64, description="API processes on one port, each with its own models"
    )
    default_model: str = Field(default="fashion-mnist", description="what `{}` generates with")
    api_key_hashes: str = Field(
        default="",
        description="scope+scope:sha256hex or scope+scope:sha256hex:last-day, comma-separated;"
        " `python -m app.keys` makes them",
    )
    rate_limit: str = Field(
        default="",
        pattern=r"^([1-9][0-9]{0,4}/(second|minute|hour|day))?$",
        description="requests for each key, or each address without keys, as in 600/minute, over"
        " all API processes; unset: no limit",
    )
    max_body_bytes: int = Field(default=2**20, ge=1024, description="of a JSON body")
    max_upload_bytes: int = Field(default=2 * GIB, ge=1024, description="of a zip")
    max_image_bytes: int = Field(
        default=32 * MIB, ge=1024, description="of a single photo that is sent"
    )
    max_dataset_bytes: int = Field(default=20 * GIB, ge=1024, description="of a zip, unpacked")
    max_imports: int = Field(default=2, ge=1, description="uploads decoded at once")
    max_import_bytes: int = Field(
        default=2 * GIB, ge=128 * MIB, description="memory that decoding an upload may take"
    )
    max_import_s: float = Field(
        default=3600, gt=0, allow_inf_nan=False, description="time that it may take"
    )
    public_url: str | None = Field(
        default=None,
        pattern="^https?://[^/?#]+/?$",
        description="what links to images begin with; unset: what the client has called",
    )
    link_ttl_s: int = Field(
        default=3600, ge=60, le=604_800, description="for which links to images work"
    )
    max_queue: int = Field(
        default=1024, ge=64, description="images waiting to be generated, for each API process"
    )
    max_model_bytes: int = Field(
        default=GIB, ge=0, description="memory for models, for each API process; one is always kept"
    )
    queues: str = Field(
        default=",".join(QUEUES),
        description="queues that a worker serves, each by a process of its own: generate (bulk"
        " generation, preparations, imports), train (trainings and searches), comma-separated",
    )
    max_queued_jobs: int = Field(default=100, ge=1, description="jobs waiting at once in a queue")
    lease_s: float = Field(
        default=20, gt=0, allow_inf_nan=False, description="silence after which a job is lost"
    )
    step_s: float = Field(
        default=600,
        gt=0,
        allow_inf_nan=False,
        description="most that a step of a job takes; a longer one is taken for hung",
    )
    checkpoint_every_s: float = Field(
        default=30, gt=0, allow_inf_nan=False, description="most of a training that is redone"
    )
    max_attempts: int = Field(default=3, ge=1, description="deaths of its process a job survives")
    keep_jobs_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="after which ended jobs are deleted with their files; unset: never",
    )
    webhook_secret: str = Field(
        default="", repr=False, description="whsec_…, comma-separated, newest first; unset: made"
    )
    webhook_private: bool = Field(
        default=False, description="let webhooks go to http:// and to private addresses"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe message that is written"
    )
    log_format: LogFormat = Field(
        default="text", description="of the lines on stderr, of the API and of workers"
    )

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _networks(cls, text: str) -> str:
        for name in text.split(",") if text not in ("", "*") else ():
            ip_network(name.strip())
        return text

    @field_validator("queues")
    @classmethod
    def _known_queues(cls, text: str) -> str:
        names = text.split(",")
        if not set(names) <= set(QUEUES) or len(set(names)) < len(names):
            raise ValueError(f"must be one or more of {', '.join(QUEUES)}, comma-separated")
        return text

    @field_validator("webhook_secret")
    @classmethod
    def _well_formed(cls, text: str) -> str:
        parse_secrets(text)
        return text

    @model_validator(mode="after")
    def _both_or_neither(self) -> "Settings":
        if (self.redis_url is None) != (self.storage_url is None):
            raise ValueError(
                "set both VITRINE_REDIS_URL and VITRINE_STORAGE_URL, or neither for embedded mode"
            )
        return self

    @model_validator(mode="after")
    def _has_a_public_address(self) -> "Settings":
        if (self.public_storage_url or "none") == "none" or self.storage_url is None:
            return self
        if not self.storage_url.startswith("s3://"):
            raise ValueError("VITRINE_PUBLIC_STORAGE_URL is for s3:// stores; unset it")
        return self

    @property
    def served_queues(self) -> tuple[QueueName, ...]:
        """The queues that a worker serves."""
        return cast("tuple[QueueName, ...]", tuple(self.queues.split(",")))

    @property
    def embedded(self) -> bool:
        """Whether this process starts its own Redis and worker and stores in a local folder."""
        return self.redis_url is None


def explain(error: ValidationError) -> str:
    """One line for each invalid setting, without its value, which may be a secret."""
    lines = []
    for item in error.errors():
        name = "_".join(["VITRINE", *(str(part).upper() for part in item["loc"])])
        message = str(item["msg"]).removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if item["loc"] else message)
    return "\n".join(lines)


def parse_arguments(
    description: str | None, arguments: Sequence[str] | None, **options: type
) -> argparse.Namespace:
    """Parse a command's `--help`, `--version` and `options`; everything else is a setting."""
    parser = argparse.ArgumentParser(
        prog=(description or "").partition(":")[0] or None,
        description=description,
        epilog="Settings are environment variables VITRINE_…; docs/operations.md lists them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vitrine {version('vitrine')}")
    for name, kind in options.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)
