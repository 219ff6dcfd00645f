"""A data set, and real worker processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from models.data.archive import ArchiveLimits
from tests.processes import children
from worker.datasets.datasets import DatasetRecord, DatasetStore, UploadOptions
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage

StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def dataset(storage: Storage) -> DatasetRecord:
    """The sample data set, uploaded."""
    with SAMPLE_ARCHIVE.open("rb") as archive:
        return DatasetStore(storage).add(archive, UploadOptions("sample"), ArchiveLimits())


@pytest.fixture
def tiny_job(dataset: DatasetRecord) -> TrainJob:
    """A training of a few seconds."""
    return TrainJob(
        dataset=dataset.id,
        model="tiny",
        resolution=28,
        preset="fast",
        batch_size=16,
        max_images=320,
    )


@pytest.fixture
def start_worker(settings: Settings) -> Iterator[StartWorker]:
    """Starts `python -m worker` for a queue; whatever still runs is killed at the end."""
    environment = {
        "VITRINE_REDIS_URL": str(settings.redis_url),
        "VITRINE_STORAGE_URL": str(settings.storage_url),
        "VITRINE_CHECKPOINT_EVERY_S": str(settings.checkpoint_every_s),
        "OMP_NUM_THREADS": "1",
    }
    started: list[subprocess.Popen[bytes]] = []

    def start(queues: str = "train") -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "worker"]
        chosen = environment | {"VITRINE_QUEUES": queues}
        process = subprocess.Popen(command, env=os.environ | chosen)
        started.append(process)
        return process

    yield start
    for process in started:
        for child in children(process.pid):  # slots would outlive their parent for a moment
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
