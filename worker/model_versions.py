"""What a model version is, and where its parts lie in storage."""

from dataclasses import dataclass, field

from pydantic import BaseModel, JsonValue

from worker.jobs import now
from worker.requests import ModelName


class ModelCard(BaseModel):
    """What a version is, how it was made, and how it was measured."""

    name: str
    version: int
    created_at: str
    weights_sha256: str
    weights_bytes: int
    origin: str  # `shipped`, or the id of the job that made it
    categories: list[str]
    capabilities: dict[str, JsonValue]
    architecture: dict[str, JsonValue]
    training: dict[str, JsonValue]
    data: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    search: dict[str, JsonValue] | None = None  # how the architecture was found, where it was
    files: list[str] = []  # curves, nearest neighbours and what else was measured


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """What is to be registered: bytes, and the card's fields that its maker knows."""

    name: ModelName
    weights: bytes
    samples_png: bytes
    origin: str
    card: dict[str, JsonValue]  # categories, capabilities, architecture, training, data, metrics
    files: dict[str, bytes] = field(default_factory=dict)

    def unnumbered(self, digest: str) -> ModelCard:
        """The card, before it is known which version it will be."""
        return ModelCard.model_validate(
            {
                "name": self.name,
                "version": 0,
                "created_at": now().isoformat().replace("+00:00", "Z"),
                "weights_sha256": digest,
                "weights_bytes": len(self.weights),
                "origin": self.origin,
                "files": sorted(self.files),
                **self.card,
            }
        )


def card_key(name: str, version: int) -> str:
    """Of the card, without which there is no version."""
    return f"models/{name}/versions/{version}/card.json"


def weights_key(name: str, digest: str) -> str:
    """Of the safetensors file."""
    return f"models/{name}/weights/{digest}.safetensors"


def samples_key(name: str, digest: str) -> str:
    """Of the sample sheet."""
    return f"models/{name}/samples/{digest}.png"


def file_key(name: str, digest: str, file: str) -> str:
    """Of one of the other files."""
    return f"models/{name}/files/{digest}/{file}"
