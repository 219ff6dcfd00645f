"""The train job: from an uploaded data set to a registered, evaluated model version.

A checkpoint holds the whole state of the training, so the next attempt resumes from it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from models.card import sample_sheet
from models.checkpoint import load_state, save_state
from models.data.datasets import Dataset
from models.evaluation.panel_report import PanelJudge
from models.training import training_log
from models.training.state import TrainState, initial_state
from models.training.train import Progress, train
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import JobCancelled, JobInterrupted, ProgressReporter
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.ledger.artifacts import JobFiles
from worker.ledger.checkpoints import Checkpoints
from worker.queue.queue import JobQueue
from worker.schemas.requests import TrainJob
from worker.storage import ObjectNotFound, Storage, StorageError
from worker.training.architectures import architecture_of
from worker.training.classifier import ClassifierFitting
from worker.training.curves import draw, event_file
from worker.training.evaluation_photos import Judge, prepare
from worker.training.photo_loading import load_photos
from worker.training.registration import EVENTS, Trained, register
from worker.training.stages import (
    EVALUATING,
    OPENING,
    TRAINING,
    allot_evaluation,
    allot_no_evaluation,
    open_plan,
)

SHORTEST_S = 0.01  # of a training, however little time there is: one more step
SHEETS = 20  # sample sheets and quick evaluations over a whole training, at most
PAUSE = 9  # times what a quick evaluation took, before the next: a tenth of the time at most
DRAW_EVERY_S = 30  # between two drawings of the curves, which take half a second


def run_training(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Train from the last checkpoint, or from the job's seed where there is none; register.

    Raises:
        JobCancelled: a client has cancelled the job.
        JobInterrupted: `stop_requested` returned True; a checkpoint is saved.
    """
    storage = jobs.ledger.storage
    job = attempt.record.request
    assert isinstance(job, TrainJob)
    record = DatasetStore(storage).fetch(job.dataset)
    plan = open_plan(storage, attempt, record)
    reporter = ProgressReporter(attempt, stop_requested, plan)
    dataset = load_photos(storage, reporter, record, job)
    training, judge = prepare(storage, reporter, record.id, dataset)
    if judge is None:
        allot_no_evaluation(plan)
    else:
        allot_evaluation(plan, judge.panel, training, judge.held_out)
    classifier = ClassifierFitting.of(storage, record, dataset)
    classifier.allot(plan)
    state = _resume_or_start(storage, attempt, record, len(training.labels))
    run = TrainingRun(attempt, reporter, state, tuple(record.categories), judge)
    try:
        run.train(training, jobs.settings.checkpoint_every_s)
        run.register(record, classifier)
    except JobInterrupted:
        run.checkpoint()
        raise
    except JobCancelled:
        run.save_metrics()
        raise


class TrainingRun:
    """One attempt at a train job: runs the steps, reports, and stores samples and checkpoints."""

    def __init__(
        self,
        attempt: Attempt,
        reporter: ProgressReporter,
        state: TrainState,
        categories: tuple[str, ...],
        judge: Judge | None,
    ) -> None:
        self.attempt = attempt
        self.reporter = reporter
        self.storage = attempt.ledger.storage
        self.checkpoints = Checkpoints(self.storage, attempt.record.id)
        self.state = state
        self.categories = categories
        self.judge = judge
        self.metrics = self._metrics_so_far()
        self.drawn_at = self.look_at = time.monotonic()
        self.quick_metrics: dict[str, float] = {}  # metrics of the last quick evaluation

    def train(self, dataset: Dataset, checkpoint_every_s: float) -> None:
        """Train to the end of the budget; reports, saves checkpoints, and stops on request."""
        self.reporter.begin(TRAINING, self.state.fraction, step=self.state.step)
        self._limit_time()
        sheets = int(self.state.fraction * SHEETS)
        saved_at = time.monotonic()
        for progress in train(self.state, dataset):
            if self.reporter.is_due:
                self._report(progress)
            is_due = sheets + 1 <= progress.fraction * SHEETS < SHEETS  # at the end it is evaluated
            if is_due and time.monotonic() >= self.look_at and self.state.is_finite():
                sheets = int(progress.fraction * SHEETS)
                self._quick_evaluation(progress)
            if time.monotonic() - saved_at >= checkpoint_every_s:
                try:
                    self.checkpoint()
                except StorageError as error:
                    self.attempt.log(f"no checkpoint was saved: {error}")
                saved_at = time.monotonic()

    def register(self, record: DatasetRecord, classifier: ClassifierFitting) -> None:
        """Register the generator as a model version and commit the job as succeeded."""
        self.checkpoint()  # if this attempt dies now, the next one need not train again
        metrics = self.reporter.metrics | self.quick_metrics
        self.reporter.show(1.0, metrics, step=self.state.step, total=self.state.step)
        asked = self.attempt.record.request
        assert isinstance(asked, TrainJob)
        self.state.config = replace(self.state.config, max_seconds=float(asked.max_seconds))
        trained = Trained(
            state=self.state,
            lines=self.metrics,
            dataset=record,
            classifier=classifier.run(self.reporter),
            judge=None if self.judge is None else self._opened(self.judge),
        )
        self.attempt.succeed(register(self.attempt, self.reporter, trained).result)

    def _opened(self, judge: Judge) -> PanelJudge:
        plan = self.reporter.plan
        seconds = plan.seconds_for(OPENING) + plan.seconds_for(EVALUATING)
        return self.reporter.run(OPENING, judge.open(seconds))

    def checkpoint(self) -> None:
        """Save the state for a later attempt to resume from; skips a state that is not finite."""
        if self.state.is_finite():
            self.save_metrics()
            self.attempt.check()
            attempt = self.attempt.record.attempt
            self.checkpoints.save(attempt, self.state.step, save_state(self.state))

    def save_metrics(self) -> None:
        """Store the metrics so far as the job's file metrics.jsonl."""
        self.attempt.store("metrics.jsonl", training_log.dump(self.metrics))

    def _limit_time(self) -> None:
        """Limit the training to what is left: evaluations and checkpoints take time as well."""
        if self.state.fraction == 1:
            return  # it has ended, with the last step checked
        left = max(self.reporter.plan.seconds_for(TRAINING), SHORTEST_S)
        limit = round(self.state.seconds + left, 3)
        self.state.config = replace(self.state.config, max_seconds=limit)

    def _report(self, progress: Progress) -> None:
        metrics = progress.metrics() | {
            "images": float(progress.images),
            "images_per_second": progress.images / max(progress.seconds, 1e-9),
        }
        # JSON has no infinity and no NaN.
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._add_metrics(progress, metrics)
        self._limit_time()
        step, done = progress.step, self.state.fraction
        shown = metrics | self.quick_metrics
        self.reporter.show(done, shown, step=step, total=max(step, round(step / done)))

    def _quick_evaluation(self, progress: Progress) -> None:
        """Store a sample sheet and compute the quick metrics; draw the curves when they are due."""
        began = time.monotonic()
        sheet = sample_sheet(self.state.ema, self.categories, self.state)
        self._store_for_display(f"samples-{progress.images:09d}.png", sheet)
        if self.judge is not None:
            self.quick_metrics = self.judge.quick_metrics(self.state.ema)
            self._add_metrics(progress, self.quick_metrics | {"images": float(progress.images)})
        if time.monotonic() - self.drawn_at >= DRAW_EVERY_S:
            self.drawn_at = time.monotonic()
            self._store_for_display("curves.png", draw(self.metrics))
            self._store_for_display(EVENTS, event_file(self.metrics))
        self.look_at = time.monotonic() + PAUSE * (time.monotonic() - began)

    def _add_metrics(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Add metrics to the step's line of metrics.jsonl."""
        if not self.metrics or self.metrics[-1]["step"] != progress.step:
            self.metrics.append(training_log.line_of(progress))
        self.metrics[-1] |= metrics

    def _metrics_so_far(self) -> list[dict[str, float]]:
        try:
            data = JobFiles(self.storage, self.attempt.record.id).read("metrics.jsonl")
        except ObjectNotFound:
            return []
        return training_log.parse(data, self.state.step)

    def _store_for_display(self, name: str, data: bytes) -> None:
        """Store a file that is only for display; a failure is logged and does not stop the job."""
        try:
            self.attempt.store(name, data)
        except StorageError as error:
            self.attempt.log(f"{name} was not stored: {error}")


def _resume_or_start(
    storage: Storage, attempt: Attempt, record: DatasetRecord, photos: int
) -> TrainState:
    saved = Checkpoints(storage, attempt.record.id).newest()
    if saved is not None:
        return load_state(saved)
    job = attempt.record.request
    assert isinstance(job, TrainJob)
    architecture = architecture_of(job, storage, record, photos)
    return initial_state(architecture.gan, architecture.recipe)
