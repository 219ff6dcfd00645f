"""The photo classifier of a model version: the data set's own, or fitted and stored there."""

from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor

from models.checkpoint import CheckpointError
from models.classification.fitting import Photos, fit_photo_classifier
from models.classification.photo_classifier import (
    BackboneChanged,
    PhotoClassifier,
    load_photo_classifier,
    save_photo_classifier,
)
from models.data.datasets import Dataset
from models.data.split import held_out_photos
from worker.attempt.progress_reporter import ProgressReporter
from worker.attempt.stage_plan import StagePlan
from worker.datasets.dataset_classifiers import DatasetClassifiers
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.storage import Storage
from worker.training.stages import CLASSIFYING


@dataclass(frozen=True, kw_only=True)
class ClassifierFitting:
    """What a job fits its classifier on: the stored photos, which are larger than its own."""

    storage: Storage
    record: DatasetRecord
    resolution: int
    held_out: Tensor  # bool (N,): the photos that the job does not train on

    @classmethod
    def of(cls, storage: Storage, record: DatasetRecord, dataset: Dataset) -> "ClassifierFitting":
        """For a job that sees the photos as `dataset`."""
        return cls(
            storage=storage,
            record=record,
            resolution=dataset.images.shape[2],
            held_out=held_out_photos(dataset),
        )

    def allot(self, plan: StagePlan) -> None:
        """Set no time aside where an earlier job has fitted it."""
        if self._stored() is not None:
            plan.allot(CLASSIFYING, 0.0)

    def run(self, reporter: ProgressReporter) -> PhotoClassifier:
        """Load the classifier, or fit and store it."""
        known = self._stored()
        if known is not None:
            return known
        with DatasetStore(self.storage).open_images(self.record.id) as source:
            categories = tuple(self.record.categories)
            photos = Photos(source=source, categories=categories, held_out=self.held_out)
            seconds = reporter.plan.seconds_for(CLASSIFYING)
            steps = fit_photo_classifier(photos, self.resolution, seconds)
            classifier = reporter.run(CLASSIFYING, steps)
        data = save_photo_classifier(classifier)
        DatasetClassifiers(self.storage, self.record.id).store(self.resolution, data)
        return classifier

    def _stored(self) -> PhotoClassifier | None:
        """The data set's classifier, unless it is damaged or of another release."""
        data = DatasetClassifiers(self.storage, self.record.id).read(self.resolution)
        with suppress(CheckpointError, BackboneChanged):
            return None if data is None else load_photo_classifier(data)
        return None
