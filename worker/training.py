"""The train job: from an uploaded data set to a registered model version.

A checkpoint holds all that the training needs. Whoever claims the job later goes on from it.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.card import Json, describe, sample_sheet
from models.checkpoint import load_state, save_model, save_state
from models.datasets import Dataset, read_images
from models.gan import preset_config
from models.train import Progress, TrainConfig, TrainState, initial_state, train
from worker.artifacts import artifact_key, checkpoint_key
from worker.datasets import DatasetRecord, DatasetStore
from worker.jobs import JobProgress, TrainJob
from worker.ledger import Claim
from worker.registry import NewVersion, Registry
from worker.settings import Settings
from worker.storage import ObjectNotFound, Storage

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
SHEETS = 20  # sample sheets over a whole training


class JobCancelled(Exception):
    """A client has asked the job to stop."""


class JobInterrupted(Exception):
    """The worker is to end; the job's checkpoint is saved."""


def run_training(
    claim: Claim, storage: Storage, settings: Settings, stop_requested: Callable[[], bool]
) -> None:
    """Train from the last checkpoint, or from the job's seed where there is none; register.

    Raises:
        JobCancelled: a client asked for it.
        JobInterrupted: `stop_requested` said so; a checkpoint is saved.
    """
    record = DatasetStore(storage).fetch(claim.record.request.dataset)
    run = TrainingRun(claim, storage, settings.checkpoint_every_s, stop_requested)
    dataset = run.load_data(record)
    run.train(_resume_or_start(storage, claim, record), dataset)
    run.register(record)


class TrainingRun:
    """One attempt at a train job: what is due when, and where it is stored."""

    def __init__(
        self,
        claim: Claim,
        storage: Storage,
        checkpoint_every_s: float,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.claim = claim
        self.storage = storage
        self.checkpoint_every_s = checkpoint_every_s
        self.stop_requested = stop_requested
        self.request: TrainJob = claim.record.request
        self.state: TrainState
        self.categories: tuple[str, ...] = ()
        self.metrics: list[dict[str, float]] = []
        self.reported_at = 0.0
        self.checkpointed_at = time.monotonic()
        self.sheets = 0

    def load_data(self, record: DatasetRecord) -> Dataset:
        """Decode the data set at the job's resolution, reporting how far it is."""
        self.categories = tuple(record.categories)
        with DatasetStore(self.storage).open_images(record.id) as source:
            loaded = read_images(source, self.request.resolution, record.channels)

            def reported() -> Iterator[tuple[int, NDArray[np.uint8]]]:
                for count, item in enumerate(loaded, start=1):
                    self._show_loading(count, record.images)
                    yield item

            return Dataset.stack(reported(), self.categories, record.images)

    def train(self, state: TrainState, dataset: Dataset) -> None:
        """Train to the end of the budget, reporting, saving and obeying on the way."""
        self.state = state
        self.metrics = self._metrics_so_far()
        self.sheets = int(state.fraction * SHEETS)
        for progress in train(state, dataset):
            if time.monotonic() - self.reported_at >= REPORT_EVERY_S:
                self._report(progress)
                self._obey()
            if progress.fraction * SHEETS >= self.sheets + 1:
                self.sheets = int(progress.fraction * SHEETS)
                self._artifact(
                    f"samples-{progress.images:09d}.png",
                    sample_sheet(self.state.ema, self.categories),
                )
            if time.monotonic() - self.checkpointed_at >= self.checkpoint_every_s:
                self.checkpoint()

    def register(self, record: DatasetRecord) -> None:
        """Make the EMA generator a model version, and the job a success."""
        self.claim.report("registering", self._progress(), self.claim.record.metrics)
        self._obey()
        self._save_metrics()
        sheet = sample_sheet(self.state.ema, self.categories)
        self._artifact("samples.png", sheet)
        registry = Registry(self.storage)
        card = registry.register(
            NewVersion(
                name=self.request.model,
                weights=save_model(self.state.ema, self.categories),
                samples_png=sheet,
                origin=self.claim.record.id,
                card=describe(self.state, self.categories, _data_summary(record)),
            )
        )
        if self.request.promote is not None:
            registry.point(card.name, self.request.promote, card.version)
        self.claim.succeed(
            {"model": card.name, "version": card.version, "alias": self.request.promote}
        )
        self.storage.delete(checkpoint_key(self.claim.record.id))

    def checkpoint(self) -> None:
        """Save all that another process needs to go on."""
        self._save_metrics()
        self.storage.put(checkpoint_key(self.claim.record.id), save_state(self.state))
        self.checkpointed_at = time.monotonic()

    def _report(self, progress: Progress) -> None:
        self.reported_at = time.monotonic()
        metrics = progress.metrics() | {
            "images": float(progress.images),
            "images_per_second": progress.images / max(progress.seconds, 1e-9),
        }
        self.metrics.append({"step": progress.step, "seconds": progress.seconds} | metrics)
        self.claim.report("training", self._progress(), metrics)

    def _obey(self) -> None:
        if self.claim.cancel_requested():
            self._save_metrics()
            raise JobCancelled
        if self.stop_requested():
            self.checkpoint()
            raise JobInterrupted

    def _progress(self) -> JobProgress:
        state = self.state
        done = max(state.fraction, 1e-9)
        return JobProgress(
            step=state.step,
            total=max(round(state.step / done), state.step),
            percent=round(100 * state.fraction, 2),
            eta_s=round(state.seconds * (1 - done) / done),
        )

    def _show_loading(self, count: int, total: int) -> None:
        if time.monotonic() - self.reported_at < REPORT_EVERY_S:
            return
        self.reported_at = time.monotonic()
        self.claim.report(
            "loading data", JobProgress(), {"images_loaded": float(count), "images": total}
        )
        if self.claim.cancel_requested():
            raise JobCancelled
        if self.stop_requested():
            raise JobInterrupted

    def _metrics_so_far(self) -> list[dict[str, float]]:
        """The lines up to the checkpoint; an attempt that died may have written more."""
        try:
            text = self.storage.read(artifact_key(self.claim.record.id, "metrics.jsonl")).decode()
        except ObjectNotFound:
            return []
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if line["step"] <= self.state.step]

    def _save_metrics(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.metrics)
        self._artifact("metrics.jsonl", text.encode())

    def _artifact(self, name: str, data: bytes) -> None:
        self.storage.put(artifact_key(self.claim.record.id, name), data)


def _resume_or_start(storage: Storage, claim: Claim, record: DatasetRecord) -> TrainState:
    try:
        return load_state(storage.read(checkpoint_key(claim.record.id)))
    except ObjectNotFound:
        pass
    job = claim.record.request
    gan = preset_config(job.preset, job.resolution, record.channels, len(record.categories))
    config = TrainConfig(
        batch_size=job.batch_size,
        max_images=job.max_images,
        max_seconds=job.max_seconds,
        loss=job.loss,
        flip=job.flip,
        seed=job.seed,
    )
    return initial_state(gan, config)


def _data_summary(record: DatasetRecord) -> dict[str, Json]:
    return {
        "dataset": record.id,
        "name": record.name,
        "images": record.images,
        "fingerprint": record.fingerprint,
    }
