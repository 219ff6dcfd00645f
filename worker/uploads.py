"""Uploads on their way to being data sets: each is worked on by one request at a time."""

import tempfile
from typing import BinaryIO

from models.archive import ArchiveLimits, DatasetError
from worker.datasets import DatasetRecord, DatasetStore
from worker.direct_uploads import UploadNotFound, UploadTooLarge, key_of
from worker.in_flight import in_flight
from worker.leases import Leases
from worker.requests import DatasetId
from worker.storage import ObjectNotFound


class Uploads:
    """What clients send us, over the data sets that it becomes."""

    def __init__(self, datasets: DatasetStore, leases: Leases) -> None:
        self.datasets = datasets
        self.leases = leases

    def add(
        self, source: BinaryIO, name: str, limits: ArchiveLimits, dataset_id: DatasetId | None
    ) -> DatasetRecord:
        """As `DatasetStore.add`.

        Raises:
            DatasetError: what is wrong with the zip, and what to do.
            RequestInFlight: another request with this id is being worked on.
        """
        if dataset_id is None or self.datasets.exists(dataset_id):
            return self.datasets.add(source, name, limits, dataset_id)
        with in_flight(self.leases, dataset_id):
            return self.datasets.add(source, name, limits, dataset_id)

    def complete(
        self, upload_id: str, name: str, limits: ArchiveLimits, max_bytes: int
    ) -> DatasetRecord:
        """Make a data set of what was sent to the object store, which keeps it no longer then.

        The data set's id is the upload's, so to complete an upload twice makes one data set.

        Raises:
            UploadNotFound: nothing was sent, or it is gone.
            UploadTooLarge: more was sent than `max_bytes`.
            DatasetError: what is wrong with the zip, and what to do.
            RequestInFlight: it is being completed at this moment.
        """
        dataset_id = _dataset_id(upload_id)
        if self.datasets.exists(dataset_id):
            return self.datasets.fetch(dataset_id)
        with in_flight(self.leases, dataset_id):
            try:
                record = self._take_in(upload_id, name, limits, max_bytes)
            except (DatasetError, UploadTooLarge):
                self.datasets.storage.delete(key_of(upload_id))
                raise
            self.datasets.storage.delete(key_of(upload_id))
        return record

    def _take_in(
        self, upload_id: str, name: str, limits: ArchiveLimits, max_bytes: int
    ) -> DatasetRecord:
        storage, key = self.datasets.storage, key_of(upload_id)
        with tempfile.TemporaryFile() as file:
            try:
                if storage.size(key) > max_bytes:
                    raise UploadTooLarge(f"The zip may have at most {max_bytes} bytes.")
                storage.download(key, file)
            except ObjectNotFound as error:
                raise UploadNotFound("nothing was sent for this upload, or it is gone") from error
            file.seek(0)
            return self.datasets.add(file, name, limits, _dataset_id(upload_id))


def _dataset_id(upload_id: str) -> DatasetId:
    return f"ds_{upload_id.removeprefix('up_')}"
