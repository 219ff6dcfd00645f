"""Bundled models and a sample data set, registered when the service starts."""

import json
from pathlib import Path

import models
from models.data.archive import ArchiveLimits
from worker.datasets.datasets import DatasetStore, UploadOptions
from worker.registry.model_versions import NewVersion
from worker.registry.registry import PRODUCTION, SHIPPED, Registry
from worker.storage import Storage

PRETRAINED = Path(models.__file__).parent / "pretrained"
OWN_FILES = ("card.json", "model.safetensors", "samples.png")  # files that every model has
SAMPLE_ARCHIVE = Path(__file__).parents[1] / "sample-data" / "clothing-sample.zip"
SAMPLE_DATASET = "ds_00000000000000sample"


def register_models(registry: Registry) -> None:
    """Register each shipped model once, as `production` where that alias is not set.

    A shipped version that was deleted is not registered again, nor any one of a deleted model.
    """
    for folder in sorted(path.parent for path in PRETRAINED.glob("*/card.json")):
        card = json.loads((folder / "card.json").read_text())
        digest = card.pop("weights_sha256")  # the registry computes its own
        if registry.removals.was_deleted(folder.name, SHIPPED, digest):
            continue
        registered = registry.register(
            NewVersion(
                name=folder.name,
                weights=(folder / "model.safetensors").read_bytes(),
                samples_png=(folder / "samples.png").read_bytes(),
                origin=SHIPPED,
                card=card,
                files={
                    path.name: path.read_bytes()
                    for path in folder.iterdir()
                    if path.name not in OWN_FILES
                },
            )
        )
        if PRODUCTION not in registry.pointers.names(folder.name):
            registry.point(folder.name, PRODUCTION, registered.version)


def add_sample_dataset(storage: Storage) -> None:
    """Store the data set that the examples in `/docs` train on, once."""
    if storage.exists(f"datasets/{SAMPLE_DATASET}/dataset.json"):
        return
    with SAMPLE_ARCHIVE.open("rb") as archive:
        DatasetStore(storage).add(
            archive, UploadOptions("clothing sample"), ArchiveLimits(), SAMPLE_DATASET
        )
