"""What a job's generator is judged by: held-out photos, seen through the data set's own CNN."""

import math
from dataclasses import dataclass

from models.checkpoint import load_classifier, save_classifier
from models.classifier import Classifier
from models.datasets import Dataset
from models.evaluation import Photos, look, see
from models.extractor import fit_extractor
from models.gan import Generator
from models.split import split
from worker.storage import ObjectExists, ObjectNotFound, Storage
from worker.watch import Watch


@dataclass(frozen=True)
class Judge:
    """The photos, and the first of the held-out ones for a quick look."""

    photos: Photos
    few: Photos

    def look(self, generator: Generator) -> dict[str, float]:
        """A few numbers for the job's metrics; those that could not be computed are left out."""
        return {name: x for name, x in look(generator, self.few).items() if math.isfinite(x)}


def prepare(
    storage: Storage, watch: Watch, dataset_id: str, dataset: Dataset
) -> tuple[Dataset, Judge | None]:
    """The part to train on, and the judge; None where the data set is too small to have one."""
    training, held_out = split(dataset)
    if held_out is None:
        return training, None
    extractor = _extractor(storage, watch, dataset_id, training, len(held_out.labels))
    photos = watch.drive("looking at the photos", see(extractor, training, held_out))
    return training, Judge(photos, photos.fewer())


def _extractor(
    storage: Storage, watch: Watch, dataset_id: str, training: Dataset, judged: int
) -> Classifier:
    """The data set's CNN at this resolution: fitted once, so that all jobs' numbers compare."""
    key = f"datasets/{dataset_id}/extractors/{training.images.shape[2]}.safetensors"
    try:
        return load_classifier(storage.read(key))
    except ObjectNotFound:
        network = watch.drive("fitting the CNN", fit_extractor(training, judged))
    try:
        storage.create(key, save_classifier(network))
    except ObjectExists:
        return load_classifier(storage.read(key))  # another job was faster
    return network
