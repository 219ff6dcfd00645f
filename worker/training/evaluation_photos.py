"""Train and held-out split of a job's photos, and the networks that compare images with them.

A search splits the training part once more: choosing candidates by the held-out photos that the
winner is evaluated on would bias its reported metrics.

Colour images are judged by pretrained networks, and so a training waits for none to be fitted. Grey
images are judged by the project's own CNN, which is fitted on a data set's photos once.
"""

import hashlib
import math
from dataclasses import dataclass

from models.checkpoint import load_classifier, save_classifier
from models.data.datasets import Dataset
from models.data.split import SEARCHED, split
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos, photos_within
from models.evaluation.extractors import choice_extractor, report_extractors
from models.evaluation.feature_extractor import fit_extractor
from models.evaluation.panel import Panel
from models.evaluation.panel_report import PanelJudge, open_judge
from models.networks.classifier import Classifier
from models.networks.gan import Generator
from models.progress import Steps
from worker.attempt.progress_reporter import ProgressReporter
from worker.storage import ObjectExists, ObjectNotFound, Storage
from worker.training.feature_cache import FeatureCache
from worker.training.stages import FITTING, FOR_SEARCH, LOOKING

SEARCH_SEED = 1  # seed of the search's CNN
MOST_SEARCH_PHOTOS = 500  # that candidates are compared with


@dataclass(frozen=True)
class Judge:
    """The held-out photos, and what compares images with them."""

    few: EvaluationSet  # for quick metrics during training
    held_out: Dataset
    panel: Panel
    cache: FeatureCache

    @property
    def training(self) -> Dataset:
        """The photos that are not held out."""
        return self.few.training

    def quick_metrics(self, generator: Generator) -> dict[str, float]:
        """Cheap metrics of a generator during training; values that are not finite are left out."""
        metrics = self.few.quick_metrics(generator)
        return {name: x for name, x in metrics.items() if math.isfinite(x)}

    def open(self, seconds: float, judgements: int = 1) -> Steps[PanelJudge]:
        """The panel, for this and so many judgements in `seconds`."""
        see = self.cache.see
        return open_judge(self.panel, self.training, self.held_out, seconds, judgements, see)


def prepare(
    storage: Storage, reporter: ProgressReporter, dataset_id: str, dataset: Dataset
) -> tuple[Dataset, Judge | None]:
    """The training part, and the judge; None where the data set is too small to hold out photos."""
    training, held_out = split(dataset)
    if held_out is None:
        return training, None
    cnn = grey_cnn(storage, reporter, dataset_id, training, len(held_out.labels))
    cache = FeatureCache(storage, dataset_id)
    looking = look_at_photos(choice_extractor(cnn), training, held_out, see=cache.see)
    few = reporter.run(LOOKING, looking)
    return training, Judge(few, held_out, Panel(report_extractors(cnn)), cache)


def prepare_search(
    storage: Storage,
    reporter: ProgressReporter,
    dataset_id: str,
    training: Dataset,
    seconds: float,
) -> EvaluationSet | None:
    """The evaluation set of a search: the training part, split once more.

    As many photos are held out as the network can look at in `seconds`; None where the training
    part is too small to be split.
    """
    searched, held_out = split(training, SEARCHED)
    if held_out is None:
        return None
    judged = len(held_out.labels)
    cnn = grey_cnn(storage, reporter, dataset_id, searched, judged, for_search=True)
    extractor, see = choice_extractor(cnn), FeatureCache(storage, dataset_id).see
    most = min(MOST_SEARCH_PHOTOS, photos_within(extractor, held_out, seconds))
    looking = look_at_photos(extractor, searched, held_out, most, see)
    return reporter.run(LOOKING + FOR_SEARCH, looking)


def grey_cnn(
    storage: Storage,
    reporter: ProgressReporter,
    dataset_id: str,
    training: Dataset,
    judged: int,
    *,
    for_search: bool = False,
) -> Classifier | None:
    """The CNN that judges grey images, fitted once on these photos; None for colour images."""
    channels, resolution = training.images.shape[1:3]
    if channels > 1:
        return None
    # By their pixels: photos that are normalised otherwise are other photos.
    digest = hashlib.sha256(training.images.numpy().tobytes()).hexdigest()[:12]
    name = f"{resolution}-{digest}{'-search' if for_search else ''}.safetensors"
    key = f"datasets/{dataset_id}/extractors/{name}"
    try:
        return load_classifier(storage.read(key))
    except ObjectNotFound:
        stage, seed = (FITTING + FOR_SEARCH, SEARCH_SEED) if for_search else (FITTING, 0)
        seconds = reporter.plan.seconds_for(stage)
        network = reporter.run(stage, fit_extractor(training, judged, seed, seconds))
    try:
        storage.create(key, save_classifier(network))
    except ObjectExists:
        return load_classifier(storage.read(key))  # another job stored it first
    return network
