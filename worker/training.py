"""The train job: from an uploaded data set to a registered, measured model version.

A checkpoint holds all that the training needs. Whoever claims the job later goes on from it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict

from models import training_log
from models.card import Json, describe, sample_sheet
from models.checkpoint import load_model, load_state, save_model, save_state
from models.datasets import Dataset, read_images
from models.evaluation import evaluate
from models.gan import Generator
from models.presets import preset_config, preset_recipe
from models.remedies import Remedies
from models.state import TrainState, initial_state
from models.train import Progress, train
from worker.artifacts import artifact_key, checkpoint_key
from worker.curves import draw, event_file
from worker.datasets import DatasetRecord, DatasetStore
from worker.jobs import JobProgress, TrainJob
from worker.judging import Judge, prepare
from worker.ledger import Claim
from worker.registry import NewVersion, Registry
from worker.settings import Settings
from worker.storage import ObjectNotFound, Storage
from worker.watch import JobCancelled, JobInterrupted, Watch

SHEETS = 20  # sample sheets and looks at held-out photos over a whole training
DRAW_EVERY_S = 30  # curves, which take half a second
EVENTS = "events.out.tfevents.vitrine"  # TensorBoard knows its files by the first three words


def run_training(
    claim: Claim, storage: Storage, settings: Settings, stop_requested: Callable[[], bool]
) -> None:
    """Train from the last checkpoint, or from the job's seed where there is none; register.

    Raises:
        JobCancelled: a client asked for it.
        JobInterrupted: `stop_requested` said so; a checkpoint is saved.
    """
    record = DatasetStore(storage).fetch(claim.record.request.dataset)
    watch = Watch(claim, stop_requested)
    dataset = _load(storage, watch, record, claim.record.request.resolution)
    training, judge = prepare(storage, watch, record.id, dataset)
    state = _resume_or_start(storage, claim, record, len(training.labels))
    run = TrainingRun(watch, storage, state, tuple(record.categories), judge)
    try:
        run.train(training, settings.checkpoint_every_s)
        run.register(record)
    except JobInterrupted:
        run.checkpoint()
        raise
    except JobCancelled:
        run.save_metrics()
        raise


class TrainingRun:
    """One attempt at a train job: what is due when, and where it is stored."""

    def __init__(
        self,
        watch: Watch,
        storage: Storage,
        state: TrainState,
        categories: tuple[str, ...],
        judge: Judge | None,
    ) -> None:
        self.watch = watch
        self.claim = watch.claim
        self.storage = storage
        self.state = state
        self.categories = categories
        self.judge = judge
        self.metrics = self._metrics_so_far()
        self.drawn_at = time.monotonic()
        self.looked: dict[str, float] = {}  # what the last look at held-out photos saw

    def train(self, dataset: Dataset, checkpoint_every_s: float) -> None:
        """Train to the end of the budget, reporting, saving and obeying on the way."""
        sheets = int(self.state.fraction * SHEETS)
        saved_at = time.monotonic()
        for progress in train(self.state, dataset):
            if self.watch.is_due:
                self._report(progress)
            if progress.fraction * SHEETS >= sheets + 1 and self.state.is_finite():
                sheets = int(progress.fraction * SHEETS)
                self._look(progress)
            if time.monotonic() - saved_at >= checkpoint_every_s:
                self.checkpoint()
                saved_at = time.monotonic()

    def register(self, record: DatasetRecord) -> None:
        """Judge the generator as it is served, make it a model version, the job a success."""
        self.checkpoint()  # whatever ends this attempt now, the training is done
        weights = save_model(self.state.ema, self.categories)
        served = load_model(weights).generator
        card, files = self._passport(record, served)
        sheet = sample_sheet(served, self.categories)
        self._artifact("samples.png", sheet)
        self.watch.show("registering", self._progress(), self.watch.metrics)
        registry = Registry(self.storage)
        job: TrainJob = self.claim.record.request
        version = registry.register(
            NewVersion(
                name=job.model,
                weights=weights,
                samples_png=sheet,
                origin=self.claim.record.id,
                card=card,
                files=files,
            )
        )
        if job.promote is not None:
            registry.point(version.name, job.promote, version.version)
        self.claim.succeed(
            {"model": version.name, "version": version.version, "alias": job.promote}
        )
        self.storage.delete(checkpoint_key(self.claim.record.id))

    def checkpoint(self) -> None:
        """Save all that another process needs to go on; never a state that is not finite."""
        if self.state.is_finite():
            self.save_metrics()
            self.storage.put(checkpoint_key(self.claim.record.id), save_state(self.state))

    def save_metrics(self) -> None:
        """What has been reported so far, for whoever reads the job's files."""
        self._artifact("metrics.jsonl", training_log.dump(self.metrics))

    def _passport(
        self, record: DatasetRecord, generator: Generator
    ) -> tuple[dict[str, Json], dict[str, bytes]]:
        """The version's card, and the files that belong to it."""
        files = {
            "metrics.jsonl": training_log.dump(self.metrics),
            "curves.png": draw(self.metrics),
            EVENTS: self._events(),
        }
        evaluation: dict[str, Json] | None = None
        if self.judge is not None:
            steps = evaluate(generator, self.judge.photos)
            report, files["neighbours.png"] = self.watch.drive("evaluating", steps)
            evaluation = asdict(report)
        for name, data in files.items():
            self._artifact(name, data)
        card = describe(self.state, self.categories, _data_summary(record), evaluation)
        return card, files

    def _report(self, progress: Progress) -> None:
        metrics = progress.metrics() | {
            "images": float(progress.images),
            "images_per_second": progress.images / max(progress.seconds, 1e-9),
        }
        # JSON has no word for what is not finite.
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._remember(progress, metrics)
        self.watch.show("training", self._progress(), metrics | self.looked)

    def _look(self, progress: Progress) -> None:
        """A sample sheet, and what the held-out photos say."""
        sheet = sample_sheet(self.state.ema, self.categories)
        self._artifact(f"samples-{progress.images:09d}.png", sheet)
        if self.judge is not None:
            self.looked = self.judge.look(self.state.ema)
            self._remember(progress, self.looked | {"images": float(progress.images)})
        if time.monotonic() - self.drawn_at >= DRAW_EVERY_S:
            self.drawn_at = time.monotonic()
            self._artifact("curves.png", draw(self.metrics))
            self._artifact(EVENTS, self._events())

    def _remember(self, progress: Progress, metrics: dict[str, float]) -> None:
        """One line of metrics.jsonl for each step."""
        if not self.metrics or self.metrics[-1]["step"] != progress.step:
            self.metrics.append({"step": progress.step, "seconds": progress.seconds})
        self.metrics[-1] |= metrics

    def _progress(self) -> JobProgress:
        state = self.state
        done = max(state.fraction, 1e-9)
        return JobProgress(
            step=state.step,
            total=max(round(state.step / done), state.step),
            percent=round(100 * state.fraction, 2),
            eta_s=round(state.seconds * (1 - done) / done),
        )

    def _metrics_so_far(self) -> list[dict[str, float]]:
        try:
            data = self.storage.read(artifact_key(self.claim.record.id, "metrics.jsonl"))
        except ObjectNotFound:
            return []
        return training_log.parse(data, self.state.step)

    def _events(self) -> bytes:
        return event_file(self.metrics, self.claim.record.created_at.timestamp())

    def _artifact(self, name: str, data: bytes) -> None:
        self.storage.put(artifact_key(self.claim.record.id, name), data)


def _load(storage: Storage, watch: Watch, record: DatasetRecord, resolution: int) -> Dataset:
    """The data set's photos, decoded at the job's resolution."""
    with DatasetStore(storage).open_images(record.id) as source:
        images = read_images(source, resolution, record.channels)
        watched = watch.during("loading data", images, record.images)
        return Dataset.stack(watched, tuple(record.categories), record.images)


def _resume_or_start(
    storage: Storage, claim: Claim, record: DatasetRecord, photos: int
) -> TrainState:
    try:
        return load_state(storage.read(checkpoint_key(claim.record.id)))
    except ObjectNotFound:
        pass
    job: TrainJob = claim.record.request
    changes = job.model_dump(include=TrainJob.RECIPE, exclude_none=True)
    changes["remedies"] = Remedies(**changes["remedies"])
    gan = preset_config(job.preset, job.resolution, record.channels, len(record.categories))
    return initial_state(gan, preset_recipe(job.resolution, photos, **changes))


def _data_summary(record: DatasetRecord) -> dict[str, Json]:
    return {
        "dataset": record.id,
        "name": record.name,
        "images": record.images,
        "fingerprint": record.fingerprint,
    }
