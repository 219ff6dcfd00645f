"""Uploads on their way to being data sets: each is worked on by one request at a time."""

from typing import BinaryIO

from models.archive import ArchiveLimits
from worker.datasets import DatasetRecord, DatasetStore
from worker.in_flight import in_flight
from worker.leases import Leases
from worker.requests import DatasetId


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
