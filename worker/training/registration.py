"""Registration of a trained generator: judged as it will be served, with its card and alias."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from models.card import Json, describe_model, sample_sheet
from models.checkpoint import load_model, save_model
from models.evaluation.evaluation import Report, evaluate
from models.evaluation.panel_report import PanelJudge, PanelReport, open_judge
from models.networks.gan import Generator
from models.progress import Steps, run, scaled
from models.training import training_log
from models.training.state import TrainState
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.datasets import DatasetRecord
from worker.registry.model_versions import ModelCard, NewVersion
from worker.registry.registry import Registry
from worker.schemas.requests import GenerateJob, NasJob, TrainJob
from worker.training.curves import draw, event_file
from worker.training.evaluation_photos import Judge
from worker.training.promotion import refusal
from worker.training.stages import EVALUATING, JUDGING, REGISTERING

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


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the judges say of a generator."""

    report: Report
    neighbours_png: bytes
    panel: PanelReport
    judge: PanelJudge


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
    evaluation: dict[str, Json] | None = None
    judged = None if trained.judge is None else _judge(served, trained.judge, reporter)
    if judged is not None:
        files["neighbours.png"] = judged.neighbours_png
        evaluation = asdict(judged.report) | {"panel": asdict(judged.panel)}
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
    new = NewVersion(
        name=job.model,
        weights=weights,
        samples_png=sheet,
        origin=record.id,
        card=card,
        files=files,
    )
    version = registry.register(new)
    promotion = _promote(registry, version, job, judged)
    return Registered(version=version, result=_summary(version, judged) | promotion)


def _judge(served: Generator, judge: Judge, reporter: ProgressReporter) -> Judged:
    """The evaluation in the CNN's features, then the panel's."""
    plan, photos = reporter.plan, judge.photos
    report, sheet = reporter.run(EVALUATING, evaluate(served, photos, plan.seconds_for(EVALUATING)))

    def judged() -> Steps[tuple[PanelJudge, PanelReport]]:
        opening = open_judge(photos, plan.seconds_for(JUDGING))
        opened = yield from scaled(opening, 0.0, 0.7)
        return opened, (yield from scaled(opened.judge(served), 0.7))

    opened, panel = reporter.run(JUDGING, judged())
    return Judged(report=report, neighbours_png=sheet, panel=panel, judge=opened)


def _summary(version: ModelCard, judged: Judged | None) -> dict[str, Json]:
    """What the job's result says of the version."""
    return {
        "model": version.name,
        "version": version.version,
        "files": [*version.files],
        "verdict": None if judged is None else judged.panel.verdict,
        "score": None if judged is None else round(judged.panel.score, 1),
    }


def _promote(
    registry: Registry, version: ModelCard, job: TrainJob | NasJob, judged: Judged | None
) -> dict[str, Json]:
    """Point the job's alias at the version unless the gate refuses it; says which."""
    if job.promote is None:
        return {"alias": None, "promoted": False, "promotion_refused": None}
    judge, report = (None, None) if judged is None else (judged.judge, judged.panel)
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
