"""Cache of photo classifiers, and of how many images they look at at once."""

import threading
from collections.abc import Callable

from torch import Tensor

from models.classification.photo_classifier import (
    CLASSIFIER_FILE,
    PhotoClassifier,
    load_photo_classifier,
    look,
)
from models.imaging.pixels import Pixels
from worker.datasets.dataset_classifiers import ClassifierMissing, DatasetClassifiers
from worker.datasets.datasets import DatasetStore
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry

MOST_KEPT = 100  # classifiers; one has a few dozen kilobytes, or a few megabytes


class ClassifierCache:
    """Opens classifiers, and looks at photos for them, `lanes` at a time; thread-safe."""

    def __init__(self, registry: Registry, datasets: DatasetStore, lanes: int) -> None:
        self.registry = registry
        self.datasets = datasets
        self._looking = threading.BoundedSemaphore(lanes)
        self._kept: dict[tuple[str, int], PhotoClassifier] = {}

    def of_version(self, card: ModelCard) -> PhotoClassifier:
        """The classifier of a model version.

        Raises:
            ClassifierMissing: the version was made without one.
            BackboneChanged: it was fitted with another release.
            CheckpointError: it is damaged.
        """
        if CLASSIFIER_FILE not in card.files:
            raise ClassifierMissing(
                f"{card.name}:{card.version} has no classifier: train it again, or name a dataset"
            )
        return self._opened(
            (card.name, card.version), lambda: self.registry.file(card, CLASSIFIER_FILE)
        )

    def of_dataset(self, dataset_id: str) -> PhotoClassifier:
        """The classifier of a data set, that of its jobs with the largest images.

        Raises:
            DatasetNotFound: there is no such data set.
            ClassifierMissing: no job has fitted one yet.
            BackboneChanged: it was fitted with another release.
            CheckpointError: it is damaged.
        """
        self.datasets.fetch(dataset_id)
        stored = DatasetClassifiers(self.datasets.storage, dataset_id)
        resolution = stored.largest()
        data = None if resolution is None else stored.read(resolution)
        if resolution is None or data is None:
            raise ClassifierMissing(
                f"{dataset_id} has no classifier yet: the first training or search on it fits one"
            )
        return self._opened((dataset_id, resolution), lambda: data)

    def look(self, image: Pixels) -> Tensor:
        """What the backbone sees in an image; waits while others are looked at."""
        with self._looking:
            return look([image])

    def _opened(self, key: tuple[str, int], read: Callable[[], bytes]) -> PhotoClassifier:
        known = self._kept.get(key)
        if known is None:
            known = load_photo_classifier(read())
            if len(self._kept) >= MOST_KEPT:
                self._kept = {}
            self._kept[key] = known
        return known
