"""A classifier fitted on the sample photos."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import worker
from models.classification.fitting import Photos, fit_photo_classifier
from models.classification.photo_classifier import PhotoClassifier
from models.data.archive import ArchiveLimits
from models.data.canonical_archive import import_archive
from models.progress import run

ARCHIVE = Path(worker.__file__).parent / "sample-data" / "clothing-sample.zip"  # 4 times 16 photos


@pytest.fixture(scope="session")
def sample() -> Iterator[Photos]:
    """The sample photos, of which every eighth is held out."""
    with ARCHIVE.open("rb") as source, io.BytesIO() as target:
        report = import_archive(source, target, ArchiveLimits())
        categories = tuple(category.name for category in report.categories)
        held_out = torch.arange(report.images) % 8 == 0
        yield Photos(source=target, categories=categories, held_out=held_out)


@pytest.fixture(scope="session")
def classifier(sample: Photos) -> PhotoClassifier:
    """Fitted for generated images of 32 px."""
    return run(fit_photo_classifier(sample, 32))
