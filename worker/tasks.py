"""What RQ runs, in the work-horse: claim a job, run it, settle how it ended."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from redis import RedisError

from models.archive import DatasetError
from models.checkpoint import CheckpointError
from models.train import Diverged
from worker.datasets import DatasetNotFound
from worker.lead import LimitsNotMet
from worker.ledger import Claim, LeaseLost
from worker.queue import JobQueue, open_queue
from worker.requests import JobType
from worker.searching import help_search, run_search
from worker.seats import Seat
from worker.settings import Settings
from worker.storage import Storage, StorageError
from worker.training import run_training
from worker.watch import JobCancelled, JobInterrupted

logger = logging.getLogger(__name__)

PATIENCE_S = 60  # a job outlasts a Redis that is away for this long

RUN: dict[JobType, Callable[[Claim, JobQueue, Callable[[], bool]], None]] = {
    "train": run_training,
    "nas": run_search,
}

# Failures that another attempt would only repeat, by the code a client sees.
FAILURES: dict[type[Exception], str] = {
    DatasetNotFound: "dataset_not_found",
    DatasetError: "invalid_dataset",
    CheckpointError: "invalid_checkpoint",
    Diverged: "diverged",
    torch.OutOfMemoryError: "out_of_memory",
    LimitsNotMet: "limits_not_met",
    ValueError: "invalid_request",
}


def run_job(job_id: str) -> None:
    """RQ entry point for every type of job; all about the job is in the ledger."""
    jobs = _open()
    claim = jobs.ledger.claim(job_id)
    if claim is None:
        logger.info("job %s is not to be run: already claimed, or ended", job_id)
        return
    with _terminated() as stop_requested, _settled(claim, jobs):
        RUN[claim.record.type](claim, jobs, stop_requested)


def help_job(job_id: str, name: str) -> None:
    """RQ entry point of a helper, leased by `name`, at a search that another process owns."""
    jobs = _open()
    seat = Seat(jobs.ledger, jobs.ledger.read(job_id), name)
    try:
        with _terminated() as stop_requested:
            help_search(seat, jobs, stop_requested)
    except (JobCancelled, JobInterrupted):
        logger.info("%s has stopped", name)
    finally:
        seat.leave()


def _open() -> JobQueue:
    settings = Settings()
    assert settings.storage_url is not None
    return open_queue(settings, Storage.open(settings.storage_url), patience_s=PATIENCE_S)


@contextmanager
def _settled(claim: Claim, jobs: JobQueue) -> Iterator[None]:
    """Commit how the job ended. Where storage or Redis failed, nothing is: it is tried again."""
    try:
        yield
    except JobInterrupted:
        jobs.deliver(claim.hand_back())
    except JobCancelled:
        claim.confirm_cancelled()
    except LeaseLost:
        logger.warning("job %s has gone to another attempt", claim.record.id)
    except (StorageError, RedisError):
        raise
    except tuple(FAILURES) as error:
        code = next(code for kind, code in FAILURES.items() if isinstance(error, kind))
        logger.warning("job %s failed: %s: %s", claim.record.id, code, error)
        claim.fail(code, str(error))
    except Exception:
        claim.fail("internal_error", "the job failed by a fault of the service; see its log")
        raise


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
