"""Train and held-out split of a job's photos, and the feature extractor (CNN) fitted on them.

A search splits the training part once more and fits another CNN: choosing candidates by the
held-out photos that the winner is evaluated on would bias its reported metrics.
"""

import math
from dataclasses import dataclass

from models.checkpoint import load_classifier, save_classifier
from models.data.datasets import Dataset, read_images
from models.data.split import SEARCHED, split
from models.evaluation.evaluation import EvaluationSet, extract_features, quick_metrics
from models.evaluation.feature_extractor import fit_extractor
from models.networks.classifier import Classifier
from models.networks.gan import Generator
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.storage import ObjectExists, ObjectNotFound, Storage
from worker.training.stages import FITTING, FOR_SEARCH, LOADING, LOOKING

SEARCH_SEED = 1  # seed of the search's CNN


@dataclass(frozen=True)
class Judge:
    """The evaluation set, and a smaller one for quick metrics during training."""

    photos: EvaluationSet
    few: EvaluationSet

    def quick_metrics(self, generator: Generator) -> dict[str, float]:
        """Cheap metrics of a generator during training; values that are not finite are left out."""
        return {
            name: x for name, x in quick_metrics(generator, self.few).items() if math.isfinite(x)
        }


def load_photos(
    storage: Storage, reporter: ProgressReporter, record: DatasetRecord, resolution: int
) -> Dataset:
    """The data set's photos, decoded at the job's resolution."""
    with DatasetStore(storage).open_images(record.id) as source:
        images = read_images(source, resolution, record.channels)
        watched = reporter.track(LOADING, images, record.images)
        return Dataset.stack(watched, tuple(record.categories), record.images)


def prepare(
    storage: Storage, reporter: ProgressReporter, dataset_id: str, dataset: Dataset
) -> tuple[Dataset, Judge | None]:
    """The training part, and the judge; None where the data set is too small to hold out photos."""
    training, held_out = split(dataset)
    if held_out is None:
        return training, None
    cache = ExtractorCache(storage, reporter, dataset_id)
    photos = cache.evaluation_set(training, held_out)
    return training, Judge(photos, photos.subsample())


def prepare_search(
    storage: Storage, reporter: ProgressReporter, dataset_id: str, training: Dataset
) -> EvaluationSet | None:
    """The evaluation set of a search: the training part, split once more.

    None where it is too small to be split.
    """
    searched, held_out = split(training, SEARCHED)
    if held_out is None:
        return None
    cache = ExtractorCache(storage, reporter, dataset_id, for_search=True)
    return cache.evaluation_set(searched, held_out)


@dataclass(frozen=True)
class ExtractorCache:
    """Cache of a data set's CNN at one resolution: fitted once, so that jobs are comparable."""

    storage: Storage
    reporter: ProgressReporter
    dataset_id: str
    for_search: bool = False

    def evaluation_set(self, training: Dataset, held_out: Dataset) -> EvaluationSet:
        """The features of both parts; loads the CNN, or fits and stores it."""
        extractor = self._extractor(training, len(held_out.labels))
        steps = extract_features(extractor, training, held_out)
        return self.reporter.run(self._stage(LOOKING), steps)

    def _extractor(self, training: Dataset, judged: int) -> Classifier:
        name = f"{training.images.shape[2]}{'-search' if self.for_search else ''}.safetensors"
        key = f"datasets/{self.dataset_id}/extractors/{name}"
        try:
            return load_classifier(self.storage.read(key))
        except ObjectNotFound:
            stage, seed = self._stage(FITTING), SEARCH_SEED if self.for_search else 0
            seconds = self.reporter.plan.seconds_for(stage)
            network = self.reporter.run(stage, fit_extractor(training, judged, seed, seconds))
        try:
            self.storage.create(key, save_classifier(network))
        except ObjectExists:
            return load_classifier(self.storage.read(key))  # another job stored it first
        return network

    def _stage(self, name: str) -> str:
        return name + FOR_SEARCH if self.for_search else name
