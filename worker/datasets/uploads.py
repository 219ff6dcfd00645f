"""Uploads that become data sets; a lease lets one request at a time process each upload."""

import tempfile
from typing import BinaryIO

from models.data.archive import ArchiveLimits, DatasetError
from worker.datasets.datasets import DatasetRecord, DatasetStore, UploadOptions
from worker.datasets.direct_uploads import (
    UploadNotFound,
    UploadTooLarge,
    check_size,
    key_of,
)
from worker.datasets.import_slot import Abandoned, wanted
from worker.ledger.in_flight import in_flight
from worker.ledger.leases import Leases
from worker.schemas.dataset_import import dataset_id_of
from worker.schemas.preparation import DatasetId
from worker.storage import ObjectNotFound


class Uploads:
    """Turns uploads into data sets, guarded against concurrent duplicates."""

    def __init__(self, datasets: DatasetStore, leases: Leases) -> None:
        self.datasets = datasets
        self.leases = leases

    def add(
        self,
        source: BinaryIO,
        options: UploadOptions,
        limits: ArchiveLimits,
        dataset_id: DatasetId | None,
        abandoned: Abandoned = wanted,
    ) -> DatasetRecord:
        """As `DatasetStore.add`.

        Raises:
            ImportAbandoned: `abandoned` became true; nothing is stored.
            DatasetError: the zip is invalid; the message says how to fix it.
            RequestInFlight: another request with this id is being processed.
        """
        if dataset_id is None or self.datasets.exists(dataset_id):
            return self.datasets.add(source, options, limits, dataset_id, abandoned)
        with in_flight(self.leases, dataset_id):
            return self.datasets.add(source, options, limits, dataset_id, abandoned)

    def complete(
        self,
        upload_id: str,
        options: UploadOptions,
        limits: ArchiveLimits,
        max_bytes: int,
        abandoned: Abandoned = wanted,
    ) -> DatasetRecord:
        """Make a data set of a direct upload, then delete the uploaded object.

        The data set's id is derived from the upload's: completing an upload twice has no further
        effect.

        Raises:
            ImportAbandoned: `abandoned` became true; the uploaded object stays.
            UploadNotFound: no zip was sent, or it was deleted.
            UploadTooLarge: the zip has more than `max_bytes`.
            DatasetError: the zip is invalid; the message says how to fix it.
            RequestInFlight: another request is completing this upload.
        """
        dataset_id = dataset_id_of(upload_id)
        if self.datasets.exists(dataset_id):
            return self.datasets.fetch(dataset_id)
        with in_flight(self.leases, dataset_id):
            try:
                record = self._take_in(upload_id, options, limits, max_bytes, abandoned)
            except (DatasetError, UploadTooLarge):
                self.datasets.storage.delete(key_of(upload_id))
                raise
            self.datasets.storage.delete(key_of(upload_id))
        return record

    def _take_in(
        self,
        upload_id: str,
        options: UploadOptions,
        limits: ArchiveLimits,
        max_bytes: int,
        abandoned: Abandoned,
    ) -> DatasetRecord:
        storage, key = self.datasets.storage, key_of(upload_id)
        with tempfile.TemporaryFile() as file:
            check_size(storage, upload_id, max_bytes)
            try:
                storage.download(key, file)
            except ObjectNotFound as error:
                raise UploadNotFound("nothing was sent for this upload, or it is gone") from error
            file.seek(0)
            return self.datasets.add(file, options, limits, dataset_id_of(upload_id), abandoned)
