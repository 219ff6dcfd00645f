"""python -m models.classification: fit the classifier of a shipped model on its training photos.

Writes `classifier.safetensors` into the model's folder, and what it can do into its card.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from models.classification.fitting import Photos, fit_photo_classifier
from models.classification.photo_classifier import (
    CLASSIFIER_FILE,
    describe_in_card,
    save_photo_classifier,
)
from models.data.archive import ArchiveLimits
from models.data.datasets import Dataset, import_archive, read_images
from models.data.split import held_out_photos
from models.progress import run

logger = logging.getLogger("classification")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit on the photos that the model was trained on, and test on those that it held out."""
    parser = argparse.ArgumentParser(prog="python -m models.classification", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip, a folder per category")
    parser.add_argument("--model", type=Path, required=True, help="folder of the shipped model")
    parser.add_argument("--most", type=float, default=float("inf"), help="seconds it may take")
    options = parser.parse_args(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    card_file = options.model / "card.json"
    card = json.loads(card_file.read_text())
    with options.archive.open("rb") as source, tempfile.TemporaryFile() as canonical:
        report = import_archive(source, canonical, ArchiveLimits())
        categories = tuple(category.name for category in report.categories)
        if list(categories) != card["categories"]:
            raise SystemExit(f"the archive has other categories than the model: {categories}")
        resolution = card["architecture"]["resolution"]
        canonical.seek(0)
        images = read_images(canonical, resolution, 1 if report.grey else 3)
        dataset = Dataset.stack(images, categories, report.images)
        photos = Photos(source=canonical, categories=categories, held_out=held_out_photos(dataset))
        classifier = run(fit_photo_classifier(photos, resolution, options.most))
    logger.info("%s", classifier.report)
    (options.model / CLASSIFIER_FILE).write_bytes(save_photo_classifier(classifier))
    describe_in_card(card, classifier.report)
    card_file.write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
