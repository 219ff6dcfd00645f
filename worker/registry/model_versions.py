"""Model version: its card, its files, and their storage keys."""

import hashlib
from dataclasses import dataclass, field

from pydantic import BaseModel, JsonValue

from worker.schemas.jobs import now
from worker.schemas.requests import ModelName
from worker.storage import Storage, StorageError


class ModelCard(BaseModel):
    """Model card: what a version is, how it was trained, and its evaluation."""

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
    search: dict[str, JsonValue] | None = None  # of a version that an architecture search found
    files: list[str] = []  # names of further files: curves, nearest neighbours, ...


@dataclass(frozen=True, kw_only=True)
class NewVersion:
    """A version to register: its files, and the card's fields that its origin provides."""

    name: ModelName
    weights: bytes
    samples_png: bytes
    origin: str
    card: dict[str, JsonValue]  # categories, capabilities, architecture, training, data, metrics
    files: dict[str, bytes] = field(default_factory=dict)

    def unnumbered(self, digest: str) -> ModelCard:
        """The card before it gets a number (version 0); `digest` is the weights' SHA-256."""
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
    """Storage key of the card, which makes the version exist."""
    return f"models/{name}/versions/{version}/card.json"


def weights_key(name: str, digest: str) -> str:
    """Storage key of the safetensors file."""
    return f"models/{name}/weights/{digest}.safetensors"


def samples_key(name: str, digest: str) -> str:
    """Storage key of the sample sheet."""
    return f"models/{name}/samples/{digest}.png"


def file_key(name: str, digest: str, file: str) -> str:
    """Storage key of one of the other files."""
    return f"models/{name}/files/{digest}/{file}"


def store_files(storage: Storage, new: NewVersion, digest: str) -> None:
    """Store the weights, whose SHA-256 is `digest`, and the other files.

    Raises:
        StorageError: the store failed, or the weights read back differ from those written.
    """
    key = weights_key(new.name, digest)
    storage.put(key, new.weights)
    if hashlib.sha256(storage.read(key)).hexdigest() != digest:
        raise StorageError("the object store has damaged what it was given")
    storage.put(samples_key(new.name, digest), new.samples_png)
    for file, data in new.files.items():
        storage.put(file_key(new.name, digest, file), data)


def delete_files(storage: Storage, name: str, digest: str) -> None:
    """Delete the weights and the other files."""
    storage.delete(weights_key(name, digest))
    storage.delete(samples_key(name, digest))
    storage.clear(f"models/{name}/files/{digest}")
