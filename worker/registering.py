"""A trained generator on its way to the registry: judged as it is served, with its passport."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from models import training_log
from models.card import Json, describe, sample_sheet
from models.checkpoint import load_model, save_model
from models.evaluation import evaluate
from models.state import TrainState
from worker.claims import Claim
from worker.curves import draw, event_file
from worker.datasets import DatasetRecord
from worker.judging import Judge
from worker.model_versions import ModelCard, NewVersion
from worker.registry import Registry
from worker.requests import GenerateJob
from worker.watch import Watch

EVENTS = "events.out.tfevents.vitrine"  # TensorBoard knows its files by the first three words


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that is done, and what was made on the way."""

    state: TrainState
    lines: training_log.Lines
    dataset: DatasetRecord
    judge: Judge | None
    search: dict[str, Json] | None = None  # how its architecture was found
    files: Mapping[str, bytes] | None = None  # what else belongs to the version


def register(claim: Claim, watch: Watch, trained: Trained) -> ModelCard:
    """Judge the generator, keep its files with the job, make it a version, point the alias."""
    record = claim.record
    categories = tuple(trained.dataset.categories)
    weights = save_model(trained.state.ema, categories)
    served = load_model(weights).generator
    files = dict(trained.files or {}) | {
        "metrics.jsonl": training_log.dump(trained.lines),
        "curves.png": draw(trained.lines),
        EVENTS: event_file(trained.lines, record.created_at.timestamp()),
    }
    evaluation: dict[str, Json] | None = None
    if trained.judge is not None:
        steps = evaluate(served, trained.judge.photos)
        report, files["neighbours.png"] = watch.drive("evaluating", steps)
        evaluation = asdict(report)
    sheet = sample_sheet(served, categories)
    for name, data in {**files, "samples.png": sheet}.items():
        claim.store(name, data)
    watch.show("registering", record.progress, watch.metrics)
    card = describe(trained.state, categories, _data_summary(trained.dataset), evaluation)
    if trained.search is not None:
        card["search"] = trained.search
    registry = Registry(claim.ledger.storage)
    claim.check()
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


def _data_summary(record: DatasetRecord) -> dict[str, Json]:
    return {
        "dataset": record.id,
        "name": record.name,
        "images": record.images,
        "fingerprint": record.fingerprint,
    }
