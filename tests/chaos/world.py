"""A complete job system for chaos tests: Valkey, a store behind a proxy, real workers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from models.data.archive import ArchiveLimits
from tests.chaos.proxy import Proxy
from tests.s3 import S3Server, s3_environment
from worker.datasets.datasets import DatasetStore, UploadOptions
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.checkpoints import Checkpoints
from worker.queue.queue import open_queue
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage

Worker = subprocess.Popen[bytes]

PATIENCE_S = 180.0  # for a job of a few seconds, on a busy machine


class World:
    """All that a job needs, and methods that inject faults."""

    def __init__(
        self,
        folder: Path,
        server: S3Server,
        name: str,
        *,
        lease_s: float = 20.0,
        checkpoint_every_s: float = 0.2,
    ) -> None:
        self.name = name
        self.server = server
        self.folder = folder / name
        self.proxy = Proxy(server.port)
        self.valkey = EmbeddedValkey(self.folder / "valkey")
        self.valkey.start()
        self.environment = s3_environment(self.proxy.port) | {
            "VITRINE_REDIS_URL": self.valkey.url,
            "VITRINE_STORAGE_URL": f"s3://vitrine/{name}",
            "VITRINE_LEASE_S": str(lease_s),
            "VITRINE_CHECKPOINT_EVERY_S": str(checkpoint_every_s),
            "VITRINE_MAX_QUEUED_JOBS": "10000",
            "VITRINE_QUEUES": "train",  # one process, whose death has no gentler parent
            "OMP_NUM_THREADS": "1",
        }
        # This process reaches the store without the proxy, so that faults do not affect its checks.
        os.environ.update(s3_environment(server.port))
        self.storage = Storage.open(f"s3://vitrine/{name}")
        self.settings = Settings(
            redis_url=self.valkey.url,
            storage_url=f"s3://vitrine/{name}",
            lease_s=lease_s,
            max_queued_jobs=10_000,
        )
        self.jobs = open_queue(self.settings, self.storage, timeout_s=30)
        self.workers: list[Worker] = []
        with SAMPLE_ARCHIVE.open("rb") as archive:
            self.dataset = DatasetStore(self.storage).add(
                archive, UploadOptions("sample"), ArchiveLimits()
            )

    def close(self) -> None:
        """Stop all parts."""
        for worker in self.workers:
            self.thaw(worker)
            worker.kill()
            worker.wait()
        self.jobs.leases.redis.close()
        self.jobs.connection.close()
        self.valkey.stop()
        self.proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def job(self, **changes: object) -> TrainJob:
        """A training job of a few seconds."""
        tiny = TrainJob(
            dataset=self.dataset.id,
            model="tiny",
            resolution=28,
            preset="fast",
            batch_size=16,
            max_images=800,
        )
        return tiny.model_copy(update=changes)

    def start_worker(self) -> Worker:
        """Start `python -m worker`."""
        log = (self.folder / "worker.log").open("ab")
        with log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def horse(self, worker: Worker) -> int | None:
        """Pid of the work-horse that runs a worker's job; None without a job."""
        try:
            text = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
        except FileNotFoundError:
            return None
        children = text.split()
        return int(children[0]) if children else None

    def kill(self, worker: Worker, whom: str) -> None:
        """SIGKILL the work-horse, the worker, or both."""
        horse = self.horse(worker)
        if whom in ("horse", "both") and horse is not None:
            os.kill(horse, signal.SIGKILL)
        if whom in ("worker", "both"):
            worker.kill()

    def freeze(self, worker: Worker, *, horse_alone: bool) -> None:
        """SIGSTOP a work-horse, and its worker too unless `horse_alone`."""
        self._signal(worker, signal.SIGSTOP, horse_alone=horse_alone)

    def thaw(self, worker: Worker) -> None:
        """SIGCONT a worker and its work-horse."""
        self._signal(worker, signal.SIGCONT)

    def restart_valkey(self, down_s: float) -> None:
        """SIGKILL the Redis server, and start another one on its files."""
        os.kill(self.valkey.pid, signal.SIGKILL)
        self.valkey.stop()
        time.sleep(down_s)
        self.valkey = EmbeddedValkey(self.folder / "valkey")
        self.valkey.start()

    def wait_for(self, job_id: str, reached: Callable[[JobRecord], bool]) -> JobRecord:
        """Poll a job until `reached` holds; returns its record."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            record = self.jobs.fetch(job_id)
            if reached(record):
                return record
            assert not record.terminal, record
            time.sleep(0.02)
        raise AssertionError(f"not reached within {PATIENCE_S} s: {self.jobs.fetch(job_id)}")

    def newest_step(self, job_id: str) -> int:
        """Step of a job's newest checkpoint; 0 if it has none."""
        keys = self.storage.keys(Checkpoints(self.storage, job_id).folder)
        return max((int(key.rsplit("/", 1)[-1].split("-")[1]) for key in keys), default=0)

    def _signal(self, worker: Worker, signum: signal.Signals, *, horse_alone: bool = False) -> None:
        horse = self.horse(worker)
        for pid in (None if horse_alone else worker.pid, horse):
            if pid is not None and worker.poll() is None:
                os.kill(pid, signum)


def succeeded(record: JobRecord) -> bool:
    """For `wait_for`."""
    return record.status == "succeeded"


def training(record: JobRecord) -> bool:
    """For `wait_for`."""
    return record.stage == "training"
