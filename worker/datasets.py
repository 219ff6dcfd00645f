"""Uploaded data sets: the canonical photos, the validation report and the preview, in storage.

The record is stored last: a data set whose upload broke off is never visible.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pydantic import BaseModel, JsonValue

from models.archive import ArchiveLimits
from models.canonical import Imported, import_photos
from models.report import DatasetReport
from models.split import SEARCHED, held_out_sizes
from worker.jobs import new_id, now
from worker.records import Records
from worker.requests import DatasetId, GenerateJob
from worker.storage import ObjectExists, ObjectNotFound, Storage

ImportPhotos = Callable[[BinaryIO, BinaryIO, ArchiveLimits], Imported]


class DatasetNotFound(LookupError):
    """No data set has this id."""


class DatasetInUse(RuntimeError):
    """A job needs the data set."""


class DatasetRecord(BaseModel):
    """One data set, with the report of its validation."""

    id: str
    name: str
    created_at: str
    images: int
    categories: list[str]
    grey: bool
    fingerprint: str
    report: dict[str, JsonValue]

    @property
    def channels(self) -> int:
        """Of the images a model learns from it."""
        return 1 if self.grey else 3

    @property
    def training_images(self) -> int:
        """How many photos a job trains on; the others are held out to judge it."""
        return sum(self._training_sizes)

    @property
    def is_searchable(self) -> bool:
        """Whether a search can hold out photos once more, from those that a job trains on."""
        sizes = self._training_sizes
        return sum(sizes) < self.images and any(held_out_sizes(sizes, SEARCHED))

    @property
    def _training_sizes(self) -> list[int]:
        categories = DatasetReport.from_json(self.report).categories
        sizes = [category.images for category in categories]
        return [size - out for size, out in zip(sizes, held_out_sizes(sizes), strict=True)]


class DatasetStore:
    """The data sets in one object store.

    Uploads from outside are for an `Importer` to import; what we made ourselves needs none.
    """

    def __init__(self, storage: Storage, importing: ImportPhotos = import_photos) -> None:
        self.storage = storage
        self._import = importing

    def add(
        self,
        source: BinaryIO,
        name: str,
        limits: ArchiveLimits,
        dataset_id: DatasetId | None = None,
    ) -> DatasetRecord:
        """Validate an uploaded zip and keep its photos; durable when this returns.

        Where there is a data set with this id, it is returned, and nothing is done.

        Raises:
            DatasetError: what is wrong with the zip, and what to do.
        """
        if dataset_id is not None and self.exists(dataset_id):
            return self.fetch(dataset_id)
        dataset_id = dataset_id or new_id("ds")
        with tempfile.TemporaryFile() as canonical:
            imported = self._import(source, canonical, limits)
            record = _record(dataset_id, name, imported.report)
            self.storage.put(f"datasets/{dataset_id}/images.zip", canonical)
        self.storage.put(f"datasets/{dataset_id}/preview.png", imported.preview_png)
        try:
            self.storage.create(_record_key(dataset_id), record.model_dump_json().encode())
        except ObjectExists:
            return self.fetch(dataset_id)  # the same request at the same moment was faster
        return record

    def exists(self, dataset_id: str) -> bool:
        """Whether there is a data set with this id."""
        return self.storage.exists(_record_key(dataset_id))

    def fetch(self, dataset_id: str) -> DatasetRecord:
        """One record.

        Raises:
            DatasetNotFound: no such data set.
        """
        try:
            return DatasetRecord.model_validate_json(self.storage.read(_record_key(dataset_id)))
        except ObjectNotFound as error:
            raise DatasetNotFound(f"no data set {dataset_id}") from error

    def page(self, limit: int, after: str | None) -> tuple[list[DatasetRecord], bool]:
        """Data sets newest first, from behind `after`, and whether there are more."""
        ids = [name for name in self.storage.folders("datasets") if after is None or name < after]
        found: list[DatasetRecord] = []
        for dataset_id in sorted(ids, reverse=True):
            if self.exists(dataset_id):
                found.append(self.fetch(dataset_id))
            if len(found) > limit:
                return found[:limit], True
        return found, False

    def delete(self, dataset_id: str, records: Records) -> None:
        """Take a data set away, for ever.

        Raises:
            DatasetNotFound: no such data set.
            DatasetInUse: a job that has not ended needs it.
        """
        self.fetch(dataset_id)
        for job in records.marked():
            if isinstance(job.request, GenerateJob) or job.terminal:
                continue
            if job.request.dataset == dataset_id:
                raise DatasetInUse(f"{job.id} uses {dataset_id}; cancel it, or wait for its end")
        self.storage.delete(_record_key(dataset_id))  # first: without it the rest is not seen
        self.storage.clear(f"datasets/{dataset_id}")

    def preview(self, dataset_id: str) -> bytes:
        """The contact sheet, PNG.

        Raises:
            DatasetNotFound: no such data set.
        """
        self.fetch(dataset_id)
        return self.storage.read(f"datasets/{dataset_id}/preview.png")

    @contextmanager
    def open_images(self, dataset_id: str) -> Iterator[BinaryIO]:
        """The canonical zip as a local file.

        Raises:
            DatasetNotFound: no such data set.
        """
        with tempfile.TemporaryFile() as target:
            try:
                self.storage.download(f"datasets/{dataset_id}/images.zip", target)
            except ObjectNotFound as error:
                raise DatasetNotFound(f"no data set {dataset_id}") from error
            target.seek(0)
            yield target


def _record(dataset_id: str, name: str, report: DatasetReport) -> DatasetRecord:
    return DatasetRecord(
        id=dataset_id,
        name=name,
        created_at=now().isoformat().replace("+00:00", "Z"),
        images=report.images,
        categories=[category.name for category in report.categories],
        grey=report.grey,
        fingerprint=report.fingerprint,
        report=report.to_json(),
    )


def _record_key(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/dataset.json"
