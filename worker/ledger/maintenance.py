"""Maintenance of the ledger: builds the job index where it is missing, and deletes old jobs.

Both may take minutes with many jobs, so they run beside the reconciler, in API processes.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from worker.ledger.in_flight import RequestInFlight, in_flight
from worker.ledger.job_index import rebuild
from worker.ledger.ledger import Ledger
from worker.ledger.retention import prune

logger = logging.getLogger(__name__)

MAINTAIN_S = 5.0  # between two calls of `maintain`
PRUNE_EVERY_S = 3600.0


def maintain(ledger: Ledger, keep_jobs_days: int | None, stopped: Callable[[], bool]) -> None:
    """Do what is due, unless another process is doing it; ends soon once `stopped` says so.

    Raises:
        RedisError, StorageError: one of them is away; nothing is lost.
    """
    if not ledger.index.is_complete:
        with suppress(RequestInFlight), in_flight(ledger.leases, "job-index"):
            _run(rebuild(ledger.index, ledger.records), stopped)
    elif keep_jobs_days is not None and ledger.leases.take_turn("prune", PRUNE_EVERY_S):
        with suppress(RequestInFlight), in_flight(ledger.leases, "prune"):
            _run(prune(ledger, timedelta(days=keep_jobs_days)), stopped)


def _run(work: Iterable[object], stopped: Callable[[], bool]) -> None:
    for _ in work:
        if stopped():
            return
