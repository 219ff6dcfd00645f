"""The train job: from an uploaded data set to a registered, measured model version.

A checkpoint holds all that the training needs. Whoever claims the job later goes on from it.
"""

import math
import time
from collections.abc import Callable

from models import training_log
from models.card import sample_sheet
from models.checkpoint import load_state, save_state
from models.datasets import Dataset
from models.state import TrainState, initial_state
from models.train import Progress, train
from worker.architectures import architecture_of
from worker.artifacts import JobFiles
from worker.checkpoints import Checkpoints
from worker.claims import Claim
from worker.curves import draw, event_file
from worker.datasets import DatasetRecord, DatasetStore
from worker.jobs import JobProgress
from worker.judging import Judge, load_photos, prepare
from worker.queue import JobQueue
from worker.registering import EVENTS, Trained, register
from worker.requests import TrainJob
from worker.storage import ObjectNotFound, Storage, StorageError
from worker.watch import JobCancelled, JobInterrupted, Watch

SHEETS = 20  # sample sheets and looks at held-out photos over a whole training
DRAW_EVERY_S = 30  # curves, which take half a second


def run_training(claim: Claim, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Train from the last checkpoint, or from the job's seed where there is none; register.

    Raises:
        JobCancelled: a client asked for it.
        JobInterrupted: `stop_requested` said so; a checkpoint is saved.
    """
    storage = jobs.ledger.storage
    job = claim.record.request
    assert isinstance(job, TrainJob)
    record = DatasetStore(storage).fetch(job.dataset)
    watch = Watch(claim, stop_requested)
    dataset = load_photos(storage, watch, record, job.resolution)
    training, judge = prepare(storage, watch, record.id, dataset)
    state = _resume_or_start(storage, claim, record, len(training.labels))
    run = TrainingRun(claim, watch, state, tuple(record.categories), judge)
    try:
        run.train(training, jobs.settings.checkpoint_every_s)
        run.register(record, job.promote)
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
        claim: Claim,
        watch: Watch,
        state: TrainState,
        categories: tuple[str, ...],
        judge: Judge | None,
    ) -> None:
        self.claim = claim
        self.watch = watch
        self.storage = claim.ledger.storage
        self.checkpoints = Checkpoints(self.storage, claim.record.id)
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
                try:
                    self.checkpoint()
                except StorageError as error:
                    self.claim.log(f"no checkpoint was saved: {error}")
                saved_at = time.monotonic()

    def register(self, record: DatasetRecord, alias: str | None) -> None:
        """Make the generator a model version, and the job a success."""
        self.checkpoint()  # whatever ends this attempt now, the training is done
        self.watch.show("evaluating", self._progress(), self.watch.metrics)
        trained = Trained(state=self.state, lines=self.metrics, dataset=record, judge=self.judge)
        version = register(self.claim, self.watch, trained)
        self.claim.succeed({"model": version.name, "version": version.version, "alias": alias})

    def checkpoint(self) -> None:
        """Save all that another process needs to go on; never a state that is not finite."""
        if self.state.is_finite():
            self.save_metrics()
            self.claim.check()
            attempt = self.claim.record.attempt
            self.checkpoints.save(attempt, self.state.step, save_state(self.state))

    def save_metrics(self) -> None:
        """What has been reported so far, for whoever reads the job's files."""
        self.claim.store("metrics.jsonl", training_log.dump(self.metrics))

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
        self._show(f"samples-{progress.images:09d}.png", sheet)
        if self.judge is not None:
            self.looked = self.judge.look(self.state.ema)
            self._remember(progress, self.looked | {"images": float(progress.images)})
        if time.monotonic() - self.drawn_at >= DRAW_EVERY_S:
            self.drawn_at = time.monotonic()
            self._show("curves.png", draw(self.metrics))
            started_at = self.claim.record.created_at.timestamp()
            self._show(EVENTS, event_file(self.metrics, started_at))

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
            data = JobFiles(self.storage, self.claim.record.id).read("metrics.jsonl")
        except ObjectNotFound:
            return []
        return training_log.parse(data, self.state.step)

    def _show(self, name: str, data: bytes) -> None:
        """A file for onlookers, which a training does not wait for."""
        try:
            self.claim.store(name, data)
        except StorageError as error:
            self.claim.log(f"{name} was not stored: {error}")


def _resume_or_start(
    storage: Storage, claim: Claim, record: DatasetRecord, photos: int
) -> TrainState:
    saved = Checkpoints(storage, claim.record.id).newest()
    if saved is not None:
        return load_state(saved)
    job = claim.record.request
    assert isinstance(job, TrainJob)
    architecture = architecture_of(job, storage, record, photos)
    return initial_state(architecture.gan, architecture.recipe)
