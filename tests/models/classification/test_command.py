"""python -m models.classification: a classifier for a model that ships."""

import json
from pathlib import Path

import pytest

from models.classification.__main__ import main
from models.classification.photo_classifier import load_photo_classifier
from tests.models.classification.conftest import ARCHIVE

PRETRAINED = Path(__file__).parents[3] / "models" / "pretrained"


def model(folder: Path, *categories: str) -> list[str]:
    """A model's folder with a card; returns the arguments of the command."""
    card = {
        "categories": categories,
        "architecture": {"resolution": 32},
        "capabilities": {"channels": 3},
        "metrics": {"images_per_second": 1.0},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return ["--archive", str(ARCHIVE), "--model", str(folder)]


def test_it_writes_the_classifier_and_what_it_can_into_the_card(tmp_path: Path) -> None:
    main(model(tmp_path, "dress", "hat", "pants", "shoes"))
    classifier = load_photo_classifier((tmp_path / "classifier.safetensors").read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["capabilities"] == {
        **{"channels": 3, "classify": True, "min_category_probability": True},
    }
    assert set(card["metrics"]) == {"images_per_second", "classifier"}
    assert card["metrics"]["classifier"]["photos"] == classifier.report.photos == 56


def test_photos_of_other_categories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="other categories"):
        main(model(tmp_path, "dress", "hat"))


@pytest.mark.parametrize("name", ["clothing", "fashion-mnist"])
def test_shipped_classifiers_are_those_of_their_cards(name: str) -> None:
    folder = PRETRAINED / name
    classifier = load_photo_classifier((folder / "classifier.safetensors").read_bytes())
    card = json.loads((folder / "card.json").read_text())
    assert list(classifier.categories) == card["categories"]
    assert classifier.report.resolution == card["architecture"]["resolution"]
    assert vars(classifier.report) == card["metrics"]["classifier"]
    assert classifier.report.accuracy is not None
    assert classifier.report.accuracy > 0.85
    assert card["capabilities"]["min_category_probability"] is True
