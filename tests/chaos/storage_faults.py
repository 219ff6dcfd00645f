"""Storage fault injection: a store that fails at one call of a job, for each of its calls."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import pytest

import worker.tasks
from models.data.archive import ArchiveLimits
from tests.chaos.history import Verdict, judge
from worker.attempt.attempt import Attempt
from worker.datasets.datasets import DatasetStore, UploadOptions
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.ledger import Ledger
from worker.queue.queue import JobQueue, open_queue
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.registry.registry import Registry
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage, StorageError, StorageFull

Kind = Literal["fails", "fails for a while", "answer is lost", "truncates", "is full"]
KINDS: tuple[Kind, ...] = ("fails", "fails for a while", "answer is lost", "truncates", "is full")
A_WHILE = 4  # calls


class FaultyStorage(Storage):
    """A real store with a fault at call number `at`, or at `A_WHILE` calls from there."""

    def __init__(self, sound: Storage, kind: Kind, at: int) -> None:
        super().__init__(sound._store)
        self.kind = kind
        self.at = at
        self.calls = 0
        self.fired = 0

    def _strikes(self) -> bool:
        self.calls += 1
        last = self.at + (A_WHILE if self.kind == "fails for a while" else 1)
        if not self.at <= self.calls < last:
            return False
        self.fired += 1
        return True

    @contextmanager
    def _harmed(self) -> Iterator[bool]:
        """Yield whether to truncate a write; raise other faults before or after the call."""
        strikes = self._strikes()
        if strikes and self.kind in ("fails", "fails for a while"):
            raise StorageError("injected")
        if strikes and self.kind == "is full":
            raise StorageFull("injected")
        yield strikes and self.kind == "truncates"
        if strikes and self.kind == "answer is lost":
            raise StorageError("injected, after the fact")

    def put(self, key: str, data: bytes | Path | BinaryIO, media_type: str | None = None) -> None:
        """Write; a truncating fault cuts the data in half."""
        with self._harmed() as cut:
            assert isinstance(data, bytes)
            super().put(key, data[: len(data) // 2] if cut else data, media_type)

    def create(self, key: str, data: bytes) -> None:
        """Create; never truncates, as a truncated record looks like a wrong one."""
        with self._harmed():
            super().create(key, data)

    def read(self, key: str) -> bytes:
        """As it is stored."""
        with self._harmed():
            return super().read(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """List keys."""
        with self._harmed():
            return super().keys(prefix)

    def stream(self, key: str) -> Iterator[bytes]:
        """As it is stored."""
        with self._harmed():
            yield from super().stream(key)

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._harmed():
            super().delete(key)


@dataclass
class Faults:
    """Results of the jobs."""

    fired: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    calls: int = 0  # of the store, by an undisturbed job
    different: int = 0  # versions with other weights than the undisturbed job's
    failed: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)


class Bench:
    """A job system in this process, whose store can be made to fail."""

    def __init__(self, folder: Path, valkey: EmbeddedValkey) -> None:
        self.url = f"file://{folder / 'objects'}"
        self.storage = Storage.open(self.url)
        self.settings = Settings(
            redis_url=valkey.url,
            storage_url=self.url,
            checkpoint_every_s=0.05,
            max_queued_jobs=10_000,
        )
        self.jobs = open_queue(self.settings, self.storage, timeout_s=1)
        with SAMPLE_ARCHIVE.open("rb") as archive:
            self.dataset = DatasetStore(self.storage).add(
                archive, UploadOptions("sample"), ArchiveLimits()
            )
        self.job_ids: list[str] = []

    def run(self, kind: Kind, at: int) -> FaultyStorage:
        """Run one job to its end, on a store with a fault."""
        job = TrainJob(
            dataset=self.dataset.id, model="tiny", resolution=28, preset="fast", batch_size=16,
            max_images=64, promote="production", promote_force=True,
        )  # fmt: skip
        record = self.jobs.submit("train", job)
        self.job_ids.append(record.id)
        running = self.jobs.ledger.claim(record.id, f"{record.id}-1")
        assert running is not None
        store = FaultyStorage(self.storage, kind, at)
        ledger = Ledger(store, self.jobs.leases, self.jobs.ledger.events)
        jobs = JobQueue(ledger, self.jobs.connection, self.settings)
        worker.tasks._outlasting_outages(Attempt(ledger, running), jobs)
        return store

    def weights(self) -> str:
        """SHA-256 of the newest version's weights, checked against its card, origin and alias."""
        registry = Registry(self.storage)
        card = registry.versions("tiny")[-1]
        assert card.origin == self.job_ids[-1]
        assert hashlib.sha256(registry.weights(card)).hexdigest() == card.weights_sha256
        assert registry.resolve("tiny@production") == card
        return card.weights_sha256

    def close(self) -> None:
        """Close the connections to Redis."""
        self.jobs.leases.redis.close()
        self.jobs.connection.close()


def harm_every_call(folder: Path, seed: int, most: int | None = None) -> Faults:
    """Run a job for each call and kind of fault; at most `most` of them, drawn by `seed`."""
    with EmbeddedValkey(folder / "valkey") as valkey, pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.tasks, "ASK_AGAIN_S", 0.01)
        bench, result = Bench(folder, valkey), Faults()
        bench.run("fails", 0)  # also fits the feature extractor, which later jobs reuse
        result.calls = bench.run("fails", 0).calls
        weights = bench.weights()
        cases = [(kind, at) for kind in KINDS for at in range(1, result.calls + 1)]
        random.Random(seed).shuffle(cases)
        for kind, at in cases[:most]:
            store = bench.run(kind, at)
            result.fired[kind] += store.fired > 0
            ended = bench.jobs.fetch(bench.job_ids[-1])
            if ended.status != "succeeded":
                result.failed.append(f"{kind} at call {at}: {ended.error}")
            else:
                result.different += bench.weights() != weights
        result.verdict = judge(bench.jobs.ledger, bench.job_ids)
        bench.close()
    return result
