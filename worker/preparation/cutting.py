"""Cutting out: makes the masks of a data set's photos, where they are not stored yet."""

import tempfile
import zipfile
from typing import BinaryIO

import torch

from models.cutouts.attributes import PhotoAttributes, overridden
from models.cutouts.segmentation import cut_out_photos
from models.cutouts.studio_dataset import cutout_sheet
from models.imaging.encoding import encode
from worker.attempt.progress_reporter import ProgressReporter
from worker.datasets.cutouts import CutoutRecord, CutoutStore
from worker.datasets.datasets import DatasetRecord, DatasetStore
from worker.storage import Storage

CUTTING = "cutting out the products"  # name of the stage
CUTTING_S = 0.35  # a photo on one core; measured while it runs
PROBE = 20  # photos, after which the pace is known
MOST_SHARE = 0.5  # of a job's time; where cutting out takes more, the job is refused


def cutting_seconds(photos: int) -> float:
    """How long so many photos take here, about."""
    return CUTTING_S * photos / torch.get_num_threads()


def cut_out(storage: Storage, reporter: ProgressReporter, dataset: DatasetRecord) -> CutoutRecord:
    """The cut-outs of the data set; makes and stores them if there are none.

    Raises:
        JobCancelled, JobInterrupted: as `ProgressReporter.report` does; nothing is stored.
        DatasetNotFound: no such data set.
        ValueError: it would take too much of the job's time.
    """
    store = CutoutStore(storage, dataset.id)
    found = store.find()
    if found is not None:
        return found
    datasets = DatasetStore(storage)
    with datasets.open_images(dataset.id) as photos, tempfile.TemporaryFile() as masks:
        measured = _write_masks(photos, masks, reporter, dataset)
        given = datasets.given_attributes(dataset.id)
        attributes = [overridden(each, given.of(each.file)) for each in measured]
        sheet = encode(cutout_sheet(photos, masks, attributes), "png")
        masks.seek(0)
        return store.add(masks, attributes, sheet)


def _write_masks(
    photos: BinaryIO, masks: BinaryIO, reporter: ProgressReporter, dataset: DatasetRecord
) -> list[PhotoAttributes]:
    """Write a zip of masks under the names of the photos; returns the photos' attributes."""
    attributes = []
    cut_outs = cut_out_photos(photos, dataset.categories)
    with zipfile.ZipFile(masks, "w") as archive:  # uncompressed: PNGs are compressed already
        for each in reporter.track(CUTTING, cut_outs, dataset.images):
            attributes.append(each.attributes)
            archive.writestr(zipfile.ZipInfo(each.attributes.file), each.mask_png)
            if len(attributes) == PROBE:
                _check_time(reporter)
    return attributes


def _check_time(reporter: ProgressReporter) -> None:
    """Refuse a job that would spend most of its `max_seconds` on masks, while little is lost."""
    plan = reporter.plan
    if plan.remaining_in_stage_s > MOST_SHARE * plan.budget_s:
        raise ValueError(
            f"max_seconds: cutting out the products takes {plan.remaining_in_stage_s:.0f} s more,"
            " over half of it: POST /jobs/prepare first, whose masks all later jobs use, or give"
            " more seconds"
        )
