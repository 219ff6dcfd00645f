"""Registration of a trained generator: evaluated as it will be served, with its model card."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from models.card import Json, describe_model, sample_sheet
from models.checkpoint import load_model, save_model
from models.evaluation.evaluation import evaluate
from models.training import training_log
from models.training.state import TrainState
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.datasets import DatasetRecord
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import Registry
from worker.schemas.requests import GenerateJob
from worker.training.curves import draw, event_file
from worker.training.evaluation_photos import Judge
from worker.training.stages import EVALUATING, REGISTERING

EVENTS = "events.out.tfevents.vitrine"  # TensorBoard reads files named events.out.tfevents.*


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training and what belongs to its model version."""

    state: TrainState
    lines: training_log.Lines
    dataset: DatasetRecord
    judge: Judge | None
    search: dict[str, Json] | None = None  # how its architecture was found
    files: Mapping[str, bytes] | None = None  # further files of the version


def register(attempt: Attempt, reporter: ProgressReporter, trained: Trained) -> ModelCard:
    """Evaluate the generator, store its files with the job, register it, set the job's alias."""
    record = attempt.record
    categories = tuple(trained.dataset.categories)
    weights = save_model(trained.state.ema, categories)
    served = load_model(weights).generator
    files = dict(trained.files or {})
    evaluation: dict[str, Json] | None = None
    if trained.judge is not None:
        steps = evaluate(served, trained.judge.photos, reporter.plan.seconds_for(EVALUATING))
        report, files["neighbours.png"] = reporter.run(EVALUATING, steps)
        evaluation = asdict(report)
    reporter.begin(REGISTERING)
    files |= _log_files(trained.lines)
    sheet = sample_sheet(served, categories, trained.state)
    for name, data in {**files, "samples.png": sheet}.items():
        attempt.store(name, data)
    card = describe_model(trained.state, categories, _data_summary(trained.dataset), evaluation)
    if trained.search is not None:
        card["search"] = trained.search
    registry = Registry(attempt.ledger.storage)
    attempt.check()
    job = record.request
    assert not isinstance(job, GenerateJob)
    version = registry.register(
        NewVersion(
            name=job.model,
            weights=weights,
            samples_png=sheet,
            origin=record.id,
            card=card,
            files=files,
        )
    )
    if job.promote is not None:
        registry.point(version.name, job.promote, version.version)
    return version


def _log_files(lines: training_log.Lines) -> dict[str, bytes]:
    """The training log as numbers, as a picture and for TensorBoard."""
    return {
        "metrics.jsonl": training_log.dump(lines),
        "curves.png": draw(lines),
        EVENTS: event_file(lines),
    }


def _data_summary(record: DatasetRecord) -> dict[str, Json]:
    return {
        "dataset": record.id,
        "name": record.name,
        "images": record.images,
        "fingerprint": record.fingerprint,
    }
