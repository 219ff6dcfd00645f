"""Data set store: the canonical photos, validation report and preview of each uploaded data set.

The record is stored last, so an interrupted upload never becomes a visible data set.
"""

import json
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO

from pydantic import BaseModel, JsonValue, ValidationError

from models.data.archive import ArchiveLimits
from models.data.given_attributes import GivenAttributes
from models.data.report import DatasetReport
from models.data.split import SEARCHED, held_out_sizes
from models.data.upload_import import Imported, import_photos
from worker import damage
from worker.datasets.cutouts import CutoutStore
from worker.datasets.import_slot import Abandoned, wanted
from worker.ledger.records import Records
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import is_id, new_id, now
from worker.schemas.preparation import DatasetId, Normalise
from worker.schemas.requests import GenerateJob
from worker.storage import ObjectExists, ObjectNotFound, Storage

ImportPhotos = Callable[[BinaryIO, BinaryIO, ArchiveLimits, Abandoned], Imported]


class DatasetNotFound(LookupError):
    """There is no data set with this id."""


class DatasetInUse(RuntimeError):
    """A job that has not ended uses the data set."""


@dataclass(frozen=True)
class UploadOptions:
    """What a client says of a new data set."""

    name: str
    normalise: Normalise = "as_is"

    def encoded(self) -> bytes:
        """Bytes that differ where the options do."""
        # The default adds nothing: earlier releases knew the name alone.
        return self.name.encode() + (b"" if self.normalise == "as_is" else b"\0studio")


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
    normalise: Normalise = "as_is"  # of trainings that do not say it

    def normalisation(self, asked: Normalise | None) -> Normalise:
        """How a training normalises the photos: as it asks, or by the data set's default."""
        return asked or self.normalise

    @property
    def channels(self) -> int:
        """Channels of the training images: 1 for grey photos, else 3."""
        return 1 if self.grey else 3

    @property
    def training_images(self) -> int:
        """Number of photos that a job trains on; the others are held out for evaluation."""
        return sum(self._training_sizes)

    @property
    def is_searchable(self) -> bool:
        """Whether the training photos are enough for a search to hold out some of them again."""
        sizes = self._training_sizes
        return sum(sizes) < self.images and any(held_out_sizes(sizes, SEARCHED))

    @property
    def _training_sizes(self) -> list[int]:
        categories = DatasetReport.from_json(self.report).categories
        sizes = [category.images for category in categories]
        return [size - out for size, out in zip(sizes, held_out_sizes(sizes), strict=True)]


def _import_here(
    source: BinaryIO, target: BinaryIO, limits: ArchiveLimits, _abandoned: Abandoned
) -> Imported:
    return import_photos(source, target, limits)


class DatasetStore:
    """The data sets in one object store.

    `importing` decodes the zip. Client uploads need `Importer.run`, which isolates the decoders in
    a child process; the default runs in this process, for files of our own.
    """

    def __init__(self, storage: Storage, importing: ImportPhotos = _import_here) -> None:
        self.storage = storage
        self._import = importing

    def add(
        self,
        source: BinaryIO,
        options: UploadOptions,
        limits: ArchiveLimits,
        dataset_id: DatasetId | None = None,
        abandoned: Abandoned = wanted,
    ) -> DatasetRecord:
        """Validate an uploaded zip and store its photos; durable when this returns.

        If there is a data set with this id already, it is returned and nothing is stored.

        Raises:
            ImportAbandoned: nobody waits for it any more; nothing is stored.
            DatasetError: the zip is invalid; the message says how to fix it.
        """
        if dataset_id is not None and self.exists(dataset_id):
            return self.fetch(dataset_id)
        dataset_id = dataset_id or new_id("ds")
        with tempfile.TemporaryFile() as canonical:
            imported = self._import(source, canonical, limits, abandoned)
            record = _record(dataset_id, options, imported.report)
            self.storage.put(f"datasets/{dataset_id}/images.zip", canonical)
        self.storage.put(f"datasets/{dataset_id}/preview.png", imported.preview_png)
        self.storage.put(_given_key(dataset_id), json.dumps(asdict(imported.given)).encode())
        try:
            self.storage.create(_record_key(dataset_id), record.model_dump_json().encode())
        except ObjectExists:
            return self.fetch(dataset_id)  # a concurrent request with this id stored it first
        return record

    def exists(self, dataset_id: str) -> bool:
        """Whether there is a data set with this id."""
        return self.storage.exists(_record_key(dataset_id))

    def fetch(self, dataset_id: str) -> DatasetRecord:
        """The record of a data set.

        Raises:
            DatasetNotFound: no such data set.
            RecordDamaged: its record cannot be read.
        """
        key = _record_key(dataset_id)
        try:
            return DatasetRecord.model_validate_json(self.storage.read(key))
        except ObjectNotFound as error:
            raise DatasetNotFound(f"no data set {dataset_id}") from error
        except ValidationError as error:
            damage.report(self.storage, "dataset", key)
            raise RecordDamaged(f"the record of {dataset_id} is damaged") from error

    def page(self, limit: int, after: str | None) -> tuple[list[DatasetRecord], bool]:
        """Up to `limit` data sets older than the id `after`, newest first; whether more follow.

        Damaged ones are left out.
        """
        names = self.storage.folders("datasets")
        ids = [name for name in names if is_id("ds", name) and (after is None or name < after)]
        found: list[DatasetRecord] = []
        for dataset_id in sorted(ids, reverse=True):
            with suppress(DatasetNotFound, RecordDamaged):
                found.append(self.fetch(dataset_id))
            if len(found) > limit:
                return found[:limit], True
        return found, False

    def delete(self, dataset_id: str, records: Records) -> None:
        """Delete a data set.

        Raises:
            DatasetNotFound: no such data set.
            DatasetInUse: a job that has not ended uses it.
        """
        if not self.exists(dataset_id):  # a damaged one can be deleted
            raise DatasetNotFound(f"no data set {dataset_id}")
        for job in records.marked_open():
            if isinstance(job.request, GenerateJob) or job.terminal:
                continue
            if job.request.dataset == dataset_id:
                raise DatasetInUse(f"{job.id} uses {dataset_id}; cancel it, or wait for its end")
        self.storage.delete(_record_key(dataset_id))  # first: without it the data set is gone
        self.storage.clear(f"datasets/{dataset_id}")

    def preview(self, dataset_id: str) -> bytes:
        """The contact sheet, PNG; of the photos alone until the data set is prepared.

        Raises:
            DatasetNotFound, RecordDamaged: as `fetch` does.
        """
        self.fetch(dataset_id)
        cutouts = CutoutStore(self.storage, dataset_id)
        if (prepared := cutouts.find()) is not None:
            return cutouts.sheet(prepared)
        return self.storage.read(f"datasets/{dataset_id}/preview.png")

    def given_attributes(self, dataset_id: str) -> GivenAttributes:
        """What the upload's `attributes.csv` says of the photos, by their stored names."""
        try:
            stored = self.storage.read(_given_key(dataset_id))
        except ObjectNotFound:  # of an earlier release
            return GivenAttributes()
        return GivenAttributes.from_json(json.loads(stored))

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


def _record(dataset_id: str, options: UploadOptions, report: DatasetReport) -> DatasetRecord:
    return DatasetRecord(
        id=dataset_id,
        name=unicodedata.normalize("NFC", options.name),
        created_at=now().isoformat().replace("+00:00", "Z"),
        images=report.images,
        categories=[category.name for category in report.categories],
        grey=report.grey,
        fingerprint=report.fingerprint,
        report=report.to_json(),
        normalise=options.normalise,
    )


def _given_key(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/attributes.json"


def _record_key(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/dataset.json"
