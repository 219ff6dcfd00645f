"""RQ tasks, run in the work-horse: claim a job, run it, commit how it ended."""

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

from models.checkpoint import CheckpointError
from models.classification.photo_classifier import BackboneChanged
from models.data.archive import DatasetError
from models.training.train import Diverged
from worker.attempt.attempt import Attempt
from worker.attempt.heartbeat import heartbeat
from worker.attempt.progress_reporter import JobCancelled, JobInterrupted
from worker.attempt.search_helper import SearchHelper
from worker.datasets.datasets import DatasetNotFound
from worker.datasets.direct_uploads import UploadNotFound
from worker.devices import device_lock
from worker.generation.bulk_generation import NoImagePassed, run_generation
from worker.imports.import_job import run_import
from worker.ledger.ledger import LeaseLost
from worker.preparation.prepare_job import run_preparation
from worker.queue.queue import JobQueue, open_queue
from worker.registry.registry import ModelNotFound, WeightsDamaged
from worker.revision_chain import RecordDamaged
from worker.schemas.requests import JobType
from worker.search.coordinator import LimitsNotMet
from worker.search.search_job import help_search, run_search
from worker.settings import Settings
from worker.storage import (
    ObjectExists,
    ObjectNotFound,
    Storage,
    StorageError,
    StorageFull,
)
from worker.training.training import run_training

logger = logging.getLogger(__name__)

REDIS_TIMEOUT_S = 1.0  # short: a heartbeat that fails is skipped, the next one follows soon
OUTAGE_S = 600.0  # longest outage of storage or Redis before the job fails
ASK_AGAIN_S = 5.0

RUN: dict[JobType, Callable[[Attempt, JobQueue, Callable[[], bool]], None]] = {
    "train": run_training,
    "nas": run_search,
    "generate": run_generation,
    "prepare": run_preparation,
    "import": run_import,
}

FAULT = ("internal_error", "the job failed by a fault of the service; see its log")

# Permanent failures, which another attempt would repeat, and the error codes that clients see.
FAILURES: dict[type[Exception], str] = {
    DatasetNotFound: "dataset_not_found",
    UploadNotFound: "upload_not_found",
    DatasetError: "invalid_dataset",
    CheckpointError: "invalid_checkpoint",
    Diverged: "diverged",
    torch.OutOfMemoryError: "out_of_memory",
    LimitsNotMet: "limits_not_met",
    ModelNotFound: "model_not_found",
    WeightsDamaged: "model_unavailable",
    RecordDamaged: "record_damaged",
    BackboneChanged: "classifier_outdated",
    NoImagePassed: "too_few_passed",
    ValueError: "invalid_request",
}


def run_job(job_id: str) -> None:
    """RQ entry point for every type of job; everything else about the job is in the ledger."""
    jobs = _open()
    delivery = get_current_job()
    assert delivery is not None
    with device_lock(delivery.origin):
        record = jobs.ledger.claim(job_id, delivery.id)
        if record is None:
            logger.info("job %s is not to be run: already claimed, or ended", job_id)
            return
        attempt = Attempt(jobs.ledger, record)
        with heartbeat(jobs.leases, attempt.holder, attempt, jobs.settings.step_s):
            _outlasting_outages(attempt, jobs)


def _outlasting_outages(attempt: Attempt, jobs: JobQueue) -> None:
    """Run the job; after an outage of storage or Redis, resume from what is stored.

    The job fails when the outage lasts longer than `OUTAGE_S`.
    """
    failing_since = math.inf
    with _terminated() as stop_requested:
        while True:
            began = time.monotonic()
            try:
                with _settled(attempt, jobs):
                    RUN[attempt.record.type](attempt, jobs, stop_requested)
                return
            except RecordDamaged:  # its own record: nothing can be committed any more
                logger.exception("job %s cannot go on", attempt.record.id)
                return
            except (StorageError, RedisError) as error:
                if time.monotonic() - began > OUTAGE_S:  # it ran long enough: this is a new outage
                    failing_since = math.inf
                failing_since = min(failing_since, time.monotonic())
                if stop_requested():
                    with _settled(attempt, jobs):
                        raise JobInterrupted from error
                    return
                if time.monotonic() - failing_since > OUTAGE_S:
                    attempt.fail(*_outage(error))
                    return
                attempt.log("Redis is away" if isinstance(error, RedisError) else str(error))
            attempt.report("waiting", attempt.record.progress, attempt.record.metrics)
            time.sleep(ASK_AGAIN_S)


def help_job(job_id: str, name: str) -> None:
    """RQ entry point of a search helper, whose lease is `name`; another process owns the job."""
    jobs = _open()
    delivery = get_current_job()
    assert delivery is not None
    helper = SearchHelper(jobs.ledger, jobs.ledger.records.read(job_id), name)
    try:
        with (
            _terminated() as stop_requested,
            device_lock(delivery.origin),
            heartbeat(jobs.leases, name, helper, jobs.settings.step_s),
        ):
            help_search(helper, jobs, stop_requested)
    except (JobCancelled, JobInterrupted):
        logger.info("%s has stopped", name)
    finally:
        helper.leave()


def _open() -> JobQueue:
    settings = Settings()
    assert settings.storage_url is not None
    return open_queue(settings, Storage.open(settings.storage_url), timeout_s=REDIS_TIMEOUT_S)


@contextmanager
def _settled(attempt: Attempt, jobs: JobQueue) -> Iterator[None]:
    """Commit how the job ended; errors of storage or Redis pass through, to be retried."""
    try:
        yield
    except JobInterrupted:
        _hand_back(attempt, jobs)
    except JobCancelled:
        attempt.confirm_cancelled()
    except LeaseLost:
        logger.warning("job %s has gone to another attempt", attempt.record.id)
    except (ObjectExists, ObjectNotFound):  # no outage, but a bug or lost data
        logger.exception("job %s failed", attempt.record.id)
        attempt.fail(*FAULT)
    except tuple(FAILURES) as error:
        code = next(code for kind, code in FAILURES.items() if isinstance(error, kind))
        logger.warning("job %s failed: %s: %s", attempt.record.id, code, error)
        attempt.fail(code, str(error))
    except (StorageError, RedisError):
        raise
    except Exception:
        attempt.fail(*FAULT)
        raise


def _outage(error: StorageError | RedisError) -> tuple[str, str]:
    """The error code and message of a job that failed by a long outage."""
    if isinstance(error, StorageFull):
        return "storage_full", "the object store is full; make room and submit the job again"
    what = "the object store" if isinstance(error, StorageError) else "Redis"
    return "outage", f"{what} did not answer for {OUTAGE_S / 60:.0f} minutes; submit the job again"


def _hand_back(attempt: Attempt, jobs: JobQueue) -> None:
    record = attempt.hand_back()
    try:
        jobs.deliver(record)
    except RedisError:
        logger.warning("Redis is away: job %s is delivered later", record.id)


@contextmanager
def _terminated() -> Iterator[Callable[[], bool]]:
    """Record SIGTERM instead of ending; yields a function that returns whether it was received."""
    received: list[int] = []

    def remember(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)

    previous = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)
