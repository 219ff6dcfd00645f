"""What RQ runs, in the work-horse: claim a job, run it, settle how it ended."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from redis import RedisError
from rq import get_current_job

from models.archive import DatasetError
from models.checkpoint import CheckpointError
from models.train import Diverged
from worker.claims import Claim
from worker.datasets import DatasetNotFound
from worker.devices import device_lock
from worker.generating import run_generation
from worker.lead import LimitsNotMet
from worker.ledger import LeaseLost
from worker.pulse import kept_alive
from worker.queue import JobQueue, open_queue
from worker.registry import ModelNotFound, WeightsDamaged
from worker.requests import JobType
from worker.searching import help_search, run_search
from worker.seats import Seat
from worker.settings import Settings
from worker.storage import (
    ObjectExists,
    ObjectNotFound,
    Storage,
    StorageError,
    StorageFull,
)
from worker.training import run_training
from worker.watch import JobCancelled, JobInterrupted

logger = logging.getLogger(__name__)

REDIS_PATIENCE_S = 1.0  # signs of life are not worth waiting for
OUTAGE_S = 600.0  # a job outlasts a store or a Redis that is away for this long
ASK_AGAIN_S = 5.0

RUN: dict[JobType, Callable[[Claim, JobQueue, Callable[[], bool]], None]] = {
    "train": run_training,
    "nas": run_search,
    "generate": run_generation,
}

FAULT = ("internal_error", "the job failed by a fault of the service; see its log")

# Failures that another attempt would only repeat, by the code a client sees.
FAILURES: dict[type[Exception], str] = {
    DatasetNotFound: "dataset_not_found",
    DatasetError: "invalid_dataset",
    CheckpointError: "invalid_checkpoint",
    Diverged: "diverged",
    torch.OutOfMemoryError: "out_of_memory",
    LimitsNotMet: "limits_not_met",
    ModelNotFound: "model_not_found",
    WeightsDamaged: "model_unavailable",
    ValueError: "invalid_request",
}


def run_job(job_id: str) -> None:
    """RQ entry point for every type of job; all about the job is in the ledger."""
    jobs = _open()
    delivery = get_current_job()
    assert delivery is not None
    with device_lock():
        record = jobs.ledger.claim(job_id, delivery.id)
        if record is None:
            logger.info("job %s is not to be run: already claimed, or ended", job_id)
            return
        claim = Claim(jobs.ledger, record)
        with kept_alive(jobs.leases, claim.holder, claim, jobs.settings.step_s):
            _outlasting_outages(claim, jobs)


def _outlasting_outages(claim: Claim, jobs: JobQueue) -> None:
    """Run the job; where storage or Redis fail, go on from what is stored once they are back."""
    failing_since = math.inf
    with _terminated() as stop_requested:
        while True:
            began = time.monotonic()
            try:
                with _settled(claim, jobs):
                    RUN[claim.record.type](claim, jobs, stop_requested)
                return
            except (StorageError, RedisError) as error:
                if time.monotonic() - began > OUTAGE_S:  # it got far: this is another outage
                    failing_since = math.inf
                failing_since = min(failing_since, time.monotonic())
                if stop_requested():
                    raise
                if time.monotonic() - failing_since > OUTAGE_S:
                    claim.fail(*_outage(error))
                    return
                claim.log("Redis is away" if isinstance(error, RedisError) else str(error))
            claim.report("waiting", claim.record.progress, claim.record.metrics)
            time.sleep(ASK_AGAIN_S)


def help_job(job_id: str, name: str) -> None:
    """RQ entry point of a helper, leased by `name`, at a search that another process owns."""
    jobs = _open()
    seat = Seat(jobs.ledger, jobs.ledger.records.read(job_id), name)
    try:
        with (
            _terminated() as stop_requested,
            device_lock(),
            kept_alive(jobs.leases, name, seat, jobs.settings.step_s),
        ):
            help_search(seat, jobs, stop_requested)
    except (JobCancelled, JobInterrupted):
        logger.info("%s has stopped", name)
    finally:
        seat.leave()


def _open() -> JobQueue:
    settings = Settings()
    assert settings.storage_url is not None
    return open_queue(settings, Storage.open(settings.storage_url), patience_s=REDIS_PATIENCE_S)


@contextmanager
def _settled(claim: Claim, jobs: JobQueue) -> Iterator[None]:
    """Commit how the job ended. Where storage or Redis failed, nothing is: it is tried again."""
    try:
        yield
    except JobInterrupted:
        _hand_back(claim, jobs)
    except JobCancelled:
        claim.confirm_cancelled()
    except LeaseLost:
        logger.warning("job %s has gone to another attempt", claim.record.id)
    except (ObjectExists, ObjectNotFound):  # no outage: what should be there is not
        logger.exception("job %s failed", claim.record.id)
        claim.fail(*FAULT)
    except (StorageError, RedisError):
        raise
    except tuple(FAILURES) as error:
        code = next(code for kind, code in FAILURES.items() if isinstance(error, kind))
        logger.warning("job %s failed: %s: %s", claim.record.id, code, error)
        claim.fail(code, str(error))
    except Exception:
        claim.fail(*FAULT)
        raise


def _outage(error: StorageError | RedisError) -> tuple[str, str]:
    """The code and the words of a failure that waiting has not mended."""
    if isinstance(error, StorageFull):
        return "storage_full", "the object store is full; make room and submit the job again"
    what = "the object store" if isinstance(error, StorageError) else "Redis"
    return "outage", f"{what} did not answer for {OUTAGE_S / 60:.0f} minutes; submit the job again"


def _hand_back(claim: Claim, jobs: JobQueue) -> None:
    record = claim.hand_back()
    try:
        jobs.deliver(record)
    except RedisError:
        logger.warning("Redis is away: job %s is delivered later", record.id)


@contextmanager
def _terminated() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, as a question a loop can ask."""
    received: list[int] = []

    def remember(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)

    previous = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
