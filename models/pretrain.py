"""python -m models.pretrain: train a model from a zip of photos, without the service.

The shipped models are made with it. Import, hold-out split, networks, training and evaluation are
those of a train job. `--state` names a checkpoint file, from which the same command resumes after
an interruption; a larger `--max-images` or `--max-seconds` then extends the training.
"""

import argparse
import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from models.card import Json, describe_model, sample_sheet
from models.checkpoint import (
    load_classifier,
    load_model,
    load_state,
    save_classifier,
    save_model,
    save_state,
)
from models.data.archive import ArchiveLimits
from models.data.datasets import (
    Dataset,
    DatasetReport,
    import_archive,
    read_images,
)
from models.data.split import split
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos
from models.evaluation.extractors import choice_extractor, report_extractors
from models.evaluation.feature_extractor import fit_extractor
from models.evaluation.panel import Panel
from models.evaluation.panel_report import PanelJudge, open_judge
from models.networks.classifier import Classifier
from models.networks.gan import Resolution
from models.progress import run
from models.training import training_log
from models.training.losses import Loss
from models.training.presets import Preset, preset_config, preset_recipe
from models.training.state import TrainState, initial_state
from models.training.train import train

logger = logging.getLogger("pretrain")

REPORT_EVERY_S = 30.0
LOOK_EVERY_S = 120.0
# Fields of a preset's recipe that command-line options override.
CHANGES = ("loss", "lr", "batch_size", "max_images", "max_seconds", "flip", "seed")


def main() -> None:
    """Train, evaluate, and write the files of a shipped model."""
    options = _parser().parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    dataset, report = load(options.archive, options.resolution)
    training, held_out = split(dataset)
    if held_out is None:
        raise SystemExit("too few photos: every category needs 6 at least, all of them about 60")
    cnn = judge_of_grey(options.extractor, training, len(held_out.labels))
    photos = run(look_at_photos(choice_extractor(cnn), training, held_out))
    state = _resume_or_start(options, training)
    lines = fit(state, photos, options.state)
    data: dict[str, Json] = {
        "name": options.name,
        "images": report.images,
        "fingerprint": report.fingerprint,
    }
    judge = run(open_judge(Panel(report_extractors(cnn)), training, held_out))
    write(options.output, state, judge, data, lines)


def load(archive: Path, resolution: int) -> tuple[Dataset, DatasetReport]:
    """Read a zip as the service does."""
    with archive.open("rb") as source, tempfile.TemporaryFile() as canonical:
        report = import_archive(source, canonical, ArchiveLimits())
        canonical.seek(0)
        categories = tuple(category.name for category in report.categories)
        images = read_images(canonical, resolution, 1 if report.grey else 3)
        return Dataset.stack(images, categories, report.images), report


def fit(
    state: TrainState, photos: EvaluationSet, state_file: Path | None
) -> list[dict[str, float]]:
    """Train to the end, with periodic logs, metrics and saves; returns the metrics.jsonl lines."""
    report_at, look_at = state.seconds, state.seconds + LOOK_EVERY_S
    log = None if state_file is None else state_file.with_suffix(".jsonl")
    lines: list[dict[str, float]] = []
    if log is not None and log.exists():
        lines = training_log.parse(log.read_bytes(), state.step)
    for progress in train(state, photos.training):
        if progress.seconds < report_at and progress.fraction < 1:
            continue
        report_at = progress.seconds + REPORT_EVERY_S
        metrics = progress.metrics()
        if progress.seconds >= look_at:
            look_at = progress.seconds + LOOK_EVERY_S
            metrics |= photos.quick_metrics(state.ema)
        numbers = " ".join(f"{name}={value:.3f}" for name, value in metrics.items())
        logger.info("%5.1f%% images=%d %s", 100 * progress.fraction, progress.images, numbers)
        lines.append(training_log.line_of(progress) | metrics)
        if state_file is not None and log is not None and state.is_finite():
            _replace(log, training_log.dump(lines))
            _replace(state_file, save_state(state))
    return lines


def write(
    output: Path,
    state: TrainState,
    judge: PanelJudge,
    data: dict[str, Json],
    lines: training_log.Lines,
) -> None:
    """Evaluate the model and write the files of a shipped model."""
    output.mkdir(parents=True, exist_ok=True)
    categories = judge.held_out.categories
    weights = save_model(state.ema, categories)
    served = load_model(weights).generator
    report, sheet = run(judge.evaluate(served))
    card = describe_model(state, categories, data, asdict(report))
    card["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (output / "model.safetensors").write_bytes(weights)
    (output / "samples.png").write_bytes(sample_sheet(served, categories, state))
    (output / "neighbours.png").write_bytes(sheet)
    (output / "metrics.jsonl").write_bytes(training_log.dump(lines))
    (output / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def judge_of_grey(
    file: Path | None, training: Dataset, judged: int, seed: int = 0
) -> Classifier | None:
    """The CNN stored in `file`; if there is none yet, it is fitted and stored there.

    None for colour photos, which pretrained networks judge.
    """
    if training.images.shape[1] > 1:
        return None
    if file is not None and file.exists():
        return load_classifier(file.read_bytes())
    network = run(fit_extractor(training, judged, seed))
    if file is not None:
        _replace(file, save_classifier(network))
    return network


def _resume_or_start(options: argparse.Namespace, training: Dataset) -> TrainState:
    changes = {name: getattr(options, name) for name in CHANGES}
    changes = {name: value for name, value in changes.items() if value is not None}
    if options.state is not None and options.state.exists():
        state = load_state(options.state.read_bytes())
        budget = {name: changes[name] for name in ("max_images", "max_seconds") if name in changes}
        state.config = replace(state.config, **budget)
        return state
    channels = training.images.shape[1]
    gan = preset_config(options.preset, options.resolution, channels, len(training.categories))
    return initial_state(gan, preset_recipe(options.resolution, len(training.labels), **changes))


def _replace(file: Path, data: bytes) -> None:
    partial = file.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.pretrain", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip, a folder per category")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--name", required=True, help="of the data set, for the card")
    parser.add_argument("--state", type=Path, help="where to keep the training's state")
    parser.add_argument("--extractor", type=Path, help="where to keep grey images' judge")
    parser.add_argument("--resolution", type=int, choices=get_args(Resolution), default=32)
    parser.add_argument("--preset", choices=get_args(Preset), default="balanced")
    parser.add_argument("--loss", choices=get_args(Loss))
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--max-images", type=int)
    parser.add_argument("--max-seconds", type=float)
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    parser.add_argument("--seed", type=int)
    return parser


if __name__ == "__main__":
    main()
