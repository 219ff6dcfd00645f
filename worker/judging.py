"""The photos of a job: those it trains on, and those its generators are judged by.

A search must not choose by what its winner is reported by: it splits the training part once more,
and sees it through a CNN of its own.
"""

import math
from dataclasses import dataclass

from models.checkpoint import load_classifier, save_classifier
from models.classifier import Classifier
from models.datasets import Dataset, read_images
from models.evaluation import Photos, look, see
from models.extractor import fit_extractor
from models.gan import Generator
from models.split import SEARCHED, split
from worker.datasets import DatasetRecord, DatasetStore
from worker.storage import ObjectExists, ObjectNotFound, Storage
from worker.watch import Watch

SEARCH_SEED = 1  # of the search's CNN


@dataclass(frozen=True)
class Judge:
    """The photos, and the first of the held-out ones for a quick look."""

    photos: Photos
    few: Photos

    def look(self, generator: Generator) -> dict[str, float]:
        """A few numbers for the job's metrics; those that could not be computed are left out."""
        return {name: x for name, x in look(generator, self.few).items() if math.isfinite(x)}


def load_photos(storage: Storage, watch: Watch, record: DatasetRecord, resolution: int) -> Dataset:
    """The data set's photos, decoded at the job's resolution."""
    with DatasetStore(storage).open_images(record.id) as source:
        images = read_images(source, resolution, record.channels)
        watched = watch.during("loading data", images, record.images)
        return Dataset.stack(watched, tuple(record.categories), record.images)


def prepare(
    storage: Storage, watch: Watch, dataset_id: str, dataset: Dataset
) -> tuple[Dataset, Judge | None]:
    """The part to train on, and the judge; None where the data set is too small to have one."""
    training, held_out = split(dataset)
    if held_out is None:
        return training, None
    eye = Eye(storage, watch, dataset_id)
    photos = eye.see(training, held_out)
    return training, Judge(photos, photos.fewer())


def prepare_search(
    storage: Storage, watch: Watch, dataset_id: str, training: Dataset
) -> Photos | None:
    """What a search trains on and judges by: the training part, split once more.

    None where it is too small to be.
    """
    searched, held_out = split(training, SEARCHED)
    if held_out is None:
        return None
    eye = Eye(storage, watch, dataset_id, purpose="-search", seed=SEARCH_SEED)
    return eye.see(searched, held_out)


@dataclass(frozen=True)
class Eye:
    """The data set's CNN at one resolution: fitted once, so that all jobs' numbers compare."""

    storage: Storage
    watch: Watch
    dataset_id: str
    purpose: str = ""
    seed: int = 0

    def see(self, training: Dataset, held_out: Dataset) -> Photos:
        """Both parts through the CNN."""
        extractor = self._extractor(training, len(held_out.labels))
        return self.watch.drive("looking at the photos", see(extractor, training, held_out))

    def _extractor(self, training: Dataset, judged: int) -> Classifier:
        name = f"{training.images.shape[2]}{self.purpose}.safetensors"
        key = f"datasets/{self.dataset_id}/extractors/{name}"
        try:
            return load_classifier(self.storage.read(key))
        except ObjectNotFound:
            steps = fit_extractor(training, judged, self.seed)
            network = self.watch.drive("fitting the CNN", steps)
        try:
            self.storage.create(key, save_classifier(network))
        except ObjectExists:
            return load_classifier(self.storage.read(key))  # another job was faster
        return network
