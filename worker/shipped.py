"""What comes with the service: trained models, and a small data set to try things on."""

import json
from pathlib import Path

import models
from models.archive import ArchiveLimits
from worker.datasets import DatasetStore
from worker.model_versions import NewVersion
from worker.registry import PRODUCTION, SHIPPED, Registry
from worker.storage import Storage

PRETRAINED = Path(models.__file__).parent / "pretrained"
OWN_FILES = ("card.json", "model.safetensors", "samples.png")  # of every model
SAMPLE_ARCHIVE = Path(__file__).parent / "sample-data" / "clothing-sample.zip"
SAMPLE_DATASET = "ds_00000000000000sample"


def register_models(registry: Registry) -> None:
    """Register each shipped model once; `production` points to it until somebody moves it."""
    for folder in sorted(path.parent for path in PRETRAINED.glob("*/card.json")):
        card = json.loads((folder / "card.json").read_text())
        digest = card.pop("weights_sha256")  # the registry computes its own
        if registry.was_deleted(folder.name, SHIPPED, digest):
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
        if PRODUCTION not in registry.aliases(folder.name):
            registry.point(folder.name, PRODUCTION, registered.version)


def add_sample_dataset(storage: Storage) -> None:
    """The data set that the examples in `/docs` train on."""
    if storage.exists(f"datasets/{SAMPLE_DATASET}/dataset.json"):
        return
    with SAMPLE_ARCHIVE.open("rb") as archive:
        DatasetStore(storage).add(archive, "clothing sample", ArchiveLimits(), SAMPLE_DATASET)
