"""Photo classifier: what it says of photos, and its file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.backbones.__main__ import read_photos
from models.checkpoint import CheckpointError
from models.classification.photo_classifier import (
    BackboneChanged,
    PhotoClassifier,
    load_photo_classifier,
    save_photo_classifier,
    squared,
)
from models.imaging.pixels import Pixels

PHOTOS = Path(__file__).parents[1] / "photos"


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    """Two of each of ten categories, in order."""
    return read_photos(PHOTOS)


def test_probabilities_name_photos(classifier: PhotoClassifier, photos: list[Pixels]) -> None:
    shown = [each for index, each in enumerate(photos) if index // 2 in (0, 1, 4, 6)]
    probabilities = classifier.probabilities(shown)
    assert probabilities.shape == (8, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
    found = [classifier.categories[k] for k in probabilities.argmax(1)]
    wanted = [name for name in ("dress", "hat", "pants", "shoes") for _ in range(2)]
    assert sum(map(str.__eq__, found, wanted)) >= 7


def test_an_image_is_judged_by_itself(classifier: PhotoClassifier, photos: list[Pixels]) -> None:
    together = classifier.probabilities(photos[:5], threads=2)
    alone = torch.cat([classifier.probabilities([each]) for each in photos[:5]])
    assert torch.equal(together, alone)


def test_a_grey_image_is_judged_as_its_grey_rgb(classifier: PhotoClassifier) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    both = classifier.probabilities([grey, grey.repeat(3, axis=2)])
    assert torch.equal(both[0], both[1])


def test_photos_are_padded_not_distorted() -> None:
    wide = np.full((10, 30, 3), 7, dtype=np.uint8)
    wide[2:8, 5:25] = 200
    square = squared(wide)
    assert square.shape == (30, 30, 3)
    assert np.array_equal(square[10:20], wide)
    assert (square[:10] == 7).all()
    assert squared(square[:30, :30]).tobytes() == square.tobytes()


def test_a_file_gives_the_same_classifier(
    classifier: PhotoClassifier, photos: list[Pixels]
) -> None:
    data = save_photo_classifier(classifier)
    assert len(data) < 100_000
    loaded = load_photo_classifier(data)
    assert (loaded.categories, loaded.report) == (classifier.categories, classifier.report)
    assert torch.equal(loaded.probabilities(photos[:2]), classifier.probabilities(photos[:2]))
    assert save_photo_classifier(loaded) == data


def test_another_backbone_is_refused(
    classifier: PhotoClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save_photo_classifier(classifier)
    monkeypatch.setattr("models.classification.photo_classifier.BACKBONE", "efficientnet-lite1")
    with pytest.raises(BackboneChanged):
        load_photo_classifier(data)


@pytest.mark.parametrize("at", [0, 8, 200, -1])
def test_damaged_files_are_refused(classifier: PhotoClassifier, at: int) -> None:
    data = save_photo_classifier(classifier)
    with pytest.raises(CheckpointError):
        load_photo_classifier(data[:at])


def test_a_file_whose_parts_do_not_fit_is_refused(classifier: PhotoClassifier) -> None:
    with pytest.raises(CheckpointError):
        load_photo_classifier(save_photo_classifier(replace(classifier, categories=("one", "two"))))


def test_the_header_tells_what_it_was_fitted_on(classifier: PhotoClassifier) -> None:
    data = save_photo_classifier(classifier)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["vitrine"])
    assert header["categories"] == ["dress", "hat", "pants", "shoes"]
    assert header["backbone"]["name"] == "efficientnet-lite0"
    assert header["report"]["photos"] == 56
