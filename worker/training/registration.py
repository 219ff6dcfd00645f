"""Registration of a trained generator: judged as it will be served, with its card and alias."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from models.card import Json, describe_model, sample_sheet
from models.checkpoint import load_model, save_model
from models.classification.photo_classifier import (
    CLASSIFIER_FILE,
    PhotoClassifier,
    describe_in_card,
    save_photo_classifier,
)
from models.evaluation.panel_report import PanelJudge, PanelReport
from models.progress import run
from models.training import training_log
from models.training.state import TrainState
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.datasets import DatasetRecord
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import Registry
from worker.schemas.requests import NasJob, TrainJob
from worker.training.curves import draw, event_file
from worker.training.photo_loading import describe_normalisation
from worker.training.promotion import refusal
from worker.training.stages import EVALUATING, REGISTERING

EVENTS = "events.out.tfevents.vitrine"  # TensorBoard reads files named events.out.tfevents.*


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training and what belongs to its model version."""

    state: TrainState
    lines: training_log.Lines
    dataset: DatasetRecord
    classifier: PhotoClassifier
    judge: PanelJudge | None  # None where the photos are too few to judge by
    search: dict[str, Json] | None = None  # how its architecture was found
    files: Mapping[str, bytes] | None = None  # further files of the version


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered version, and what the job's result says of it."""

    version: ModelCard
    result: dict[str, Json]


def register(attempt: Attempt, reporter: ProgressReporter, trained: Trained) -> Registered:
    """Judge the generator, store its files with the job, register it, set the job's alias."""
    record = attempt.record
    categories = tuple(trained.dataset.categories)
    weights = save_model(trained.state.ema, categories)
    served = load_model(weights).generator
    files = dict(trained.files or {})
    report = None
    if trained.judge is not None:
        evaluating = trained.judge.evaluate(served)
        report, files["neighbours.png"] = reporter.run(EVALUATING, evaluating)
    reporter.begin(REGISTERING)
    files |= _log_files(trained.lines)
    files[CLASSIFIER_FILE] = save_photo_classifier(trained.classifier)
    sheet = sample_sheet(served, categories, trained.state)
    for name, data in {**files, "samples.png": sheet}.items():
        attempt.store(name, data)
    evaluation = None if report is None else asdict(report)
    job = record.request
    assert isinstance(job, TrainJob | NasJob)
    photos = _data_summary(trained.dataset) | describe_normalisation(job, trained.dataset)
    card = describe_model(trained.state, categories, photos, evaluation)
    describe_in_card(card, trained.classifier.report)
    if trained.search is not None:
        card["search"] = trained.search
    registry = Registry(attempt.ledger.storage)
    attempt.check()
    new = NewVersion(
        name=job.model,
        weights=weights,
        samples_png=sheet,
        origin=record.id,
        card=card,
        files=files,
    )
    version = registry.register(new)
    promotion = _promote(registry, version, job, trained.judge, report)
    return Registered(version=version, result=_summary(version, report) | promotion)


def _summary(version: ModelCard, report: PanelReport | None) -> dict[str, Json]:
    """What the job's result says of the version."""
    return {
        "model": version.name,
        "version": version.version,
        "files": [*version.files],
        "verdict": None if report is None else report.verdict,
        "score": None if report is None else round(report.score, 1),
    }


def _promote(
    registry: Registry,
    version: ModelCard,
    job: TrainJob | NasJob,
    judge: PanelJudge | None,
    report: PanelReport | None,
) -> dict[str, Json]:
    """Point the job's alias at the version unless the gate refuses it; says which."""
    if job.promote is None:
        return {"alias": None, "promoted": False, "promotion_refused": None}
    reason = None
    if not job.promote_force:
        reason = run(refusal(registry, version, job.promote, judge, report))
    if reason is None:
        registry.point(version.name, job.promote, version.version)
    return {
        "alias": job.promote if reason is None else None,
        "promoted": reason is None,
        "promotion_refused": reason,
    }


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
