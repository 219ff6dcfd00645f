"""Maintenance: the index is built and old jobs are deleted by one process, which can be stopped."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.worker.ledger.test_retention import WEEK, ended, stored
from worker.ledger.in_flight import in_flight
from worker.ledger.maintenance import maintain
from worker.queue.queue import JobQueue
from worker.storage import Storage


def never() -> bool:
    return False


def test_a_missing_index_is_built(jobs: JobQueue) -> None:
    ended(jobs, WEEK)
    assert not jobs.ledger.index.is_complete
    maintain(jobs.ledger, None, never)
    assert jobs.ledger.index.is_complete


def test_old_jobs_are_deleted_once_an_hour_where_that_is_configured(
    jobs: JobQueue, storage: Storage
) -> None:
    old = ended(jobs, 2 * WEEK)
    for _ in range(2):
        maintain(jobs.ledger, None, never)
    assert stored(storage, old.id)
    maintain(jobs.ledger, 7, never)
    assert not stored(storage, old.id)
    later = ended(jobs, 2 * WEEK, 1)
    maintain(jobs.ledger, 7, never)
    assert stored(storage, later.id)
    jobs.leases.end_turn("prune")
    maintain(jobs.ledger, 7, never)
    assert not stored(storage, later.id)


def test_it_stops_when_asked_and_finishes_later(
    jobs: JobQueue, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.job_index.BATCH", 2)
    old = [ended(jobs, 2 * WEEK + timedelta(minutes=n), n) for n in range(5)]
    for keep in (None, 7):
        maintain(jobs.ledger, keep, after(2))
        assert jobs.ledger.index.is_complete == (keep is not None)
        maintain(jobs.ledger, None, never)
    left = [record for record in old if stored(storage, record.id)]
    assert len(left) == 3
    jobs.leases.end_turn("prune")
    maintain(jobs.ledger, 7, never)
    assert not any(stored(storage, record.id) for record in old)


def test_one_process_at_a_time_does_it(jobs: JobQueue) -> None:
    ended(jobs, WEEK)
    with in_flight(jobs.leases, "job-index"):
        maintain(jobs.ledger, None, never)
        assert not jobs.ledger.index.is_complete
    maintain(jobs.ledger, None, never)
    assert jobs.ledger.index.is_complete


def after(calls: int) -> Callable[[], bool]:
    """Says no until it is asked for the last time of so many."""
    left = iter(range(calls - 1))
    return lambda: next(left, None) is None
