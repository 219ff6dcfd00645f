"""python -m models.pretrain: train a model from a zip of photos, without the service.

This is how the shipped models are made: the same reading, networks and training as a train job.
`--state` keeps the training's state, from which the same command goes on after an interruption.
"""

import argparse
import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import get_args

from models.archive import ArchiveLimits
from models.card import Json, describe, sample_sheet
from models.checkpoint import load_state, save_model, save_state
from models.datasets import Dataset, DatasetReport, import_archive, read_images
from models.gan import Preset, Resolution, preset_config
from models.losses import Loss
from models.train import TrainConfig, TrainState, initial_state, train

logger = logging.getLogger("pretrain")

REPORT_EVERY_S = 30.0


def main() -> None:
    """Train, and write model.safetensors, card.json and samples.png."""
    arguments = _parser().parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    dataset, report = load(arguments.archive, arguments.resolution)
    state_file: Path | None = arguments.state
    if state_file is not None and state_file.exists():
        state = load_state(state_file.read_bytes())
    else:
        gan = preset_config(
            arguments.preset,
            arguments.resolution,
            dataset.images.shape[1],
            len(dataset.categories),
        )
        config = TrainConfig(
            batch_size=arguments.batch_size,
            max_images=arguments.max_images,
            max_seconds=arguments.max_seconds,
            loss=arguments.loss,
            flip=arguments.flip,
            seed=arguments.seed,
        )
        state = initial_state(gan, config)
    run(state, dataset, state_file)
    data: dict[str, Json] = {
        "name": arguments.name,
        "images": report.images,
        "fingerprint": report.fingerprint,
    }
    write(arguments.output, state, dataset.categories, data)


def load(archive: Path, resolution: int) -> tuple[Dataset, DatasetReport]:
    """Read a zip as the service would."""
    with archive.open("rb") as source, tempfile.TemporaryFile() as canonical:
        report = import_archive(source, canonical, ArchiveLimits())
        canonical.seek(0)
        categories = tuple(category.name for category in report.categories)
        images = read_images(canonical, resolution, 1 if report.grey else 3)
        return Dataset.stack(images, categories, report.images), report


def run(state: TrainState, dataset: Dataset, state_file: Path | None) -> None:
    """Train to the end, logging and saving on the way."""
    due = state.seconds
    for progress in train(state, dataset):
        if progress.seconds < due:
            continue
        due = progress.seconds + REPORT_EVERY_S
        numbers = " ".join(f"{name}={value:.3f}" for name, value in progress.metrics().items())
        logger.info("%5.1f%% images=%d %s", 100 * progress.fraction, progress.images, numbers)
        if state_file is not None:
            partial = state_file.with_suffix(".partial")
            partial.write_bytes(save_state(state))
            partial.replace(state_file)


def write(
    output: Path, state: TrainState, categories: tuple[str, ...], data: dict[str, Json]
) -> None:
    """Write the three files that make a shipped model."""
    output.mkdir(parents=True, exist_ok=True)
    weights = save_model(state.ema, categories)
    card = describe(state, categories, data)
    card["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (output / "model.safetensors").write_bytes(weights)
    (output / "samples.png").write_bytes(sample_sheet(state.ema, categories))
    (output / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip, a folder per category")
    parser.add_argument("--output", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--name", required=True, help="of the data set, for the card")
    parser.add_argument("--state", type=Path, help="where to keep the training's state")
    parser.add_argument("--resolution", type=int, choices=get_args(Resolution), default=32)
    parser.add_argument("--preset", choices=get_args(Preset), default="balanced")
    parser.add_argument("--loss", choices=get_args(Loss), default=defaults.loss)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--max-images", type=int, default=defaults.max_images)
    parser.add_argument("--max-seconds", type=float, default=defaults.max_seconds)
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    return parser


if __name__ == "__main__":
    main()
