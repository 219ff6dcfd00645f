"""Photos of a train or nas job: as they are, or as studio photos by their masks."""

from dataclasses import asdict

from models.card import Json
from models.cutouts.studio import Color
from models.cutouts.studio_dataset import read_studio_images
from models.data.datasets import Dataset, read_images
from models.inference.backbones import identity
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.preparation.cutting import cut_out
from worker.schemas.requests import NasJob, TrainJob
from worker.storage import Storage
from worker.training.stages import LOADING

WHITE = "#FFFFFF"


def describe_normalisation(job: TrainJob | NasJob, record: DatasetRecord) -> dict[str, Json]:
    """What the model card says of how the photos were normalised."""
    kind = record.normalisation(job.normalise)
    if kind == "as_is":
        return {"normalise": kind}
    network: dict[str, Json] = {**asdict(identity("u2net-p"))}
    background = (job.background or WHITE).upper()
    return {"normalise": kind, "background": background, "cut_out_by": network}


def load_photos(
    storage: Storage, reporter: ProgressReporter, record: DatasetRecord, job: TrainJob | NasJob
) -> Dataset:
    """The data set's photos at the job's resolution; makes their masks if they are needed.

    Raises:
        ValueError: making the masks would take too much of the job's time.
    """
    if record.normalisation(job.normalise) == "studio":
        return _load_studio(storage, reporter, record, job)
    with DatasetStore(storage).open_images(record.id) as source:
        images = read_images(source, job.resolution, record.channels)
        watched = reporter.track(LOADING, images, record.images)
        return Dataset.stack(watched, tuple(record.categories), record.images)


def _load_studio(
    storage: Storage, reporter: ProgressReporter, record: DatasetRecord, job: TrainJob | NasJob
) -> Dataset:
    made = cut_out(storage, reporter, record)
    store = CutoutStore(storage, record.id)
    with DatasetStore(storage).open_images(record.id) as photos, store.open_masks(made) as masks:
        images = read_studio_images(
            photos,
            masks,
            store.attributes(made),
            job.resolution,
            channels=record.channels,
            background=_rgb(job.background or WHITE),
        )
        watched = reporter.track(LOADING, images, record.images)
        return Dataset.stack(watched, tuple(record.categories), record.images)


def _rgb(color: str) -> Color:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
