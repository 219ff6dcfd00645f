"""The nas job: architecture search on an uploaded data set, then training and registration.

One process owns the job. It and its helpers take trainings from a shared study, so any of them may
die: its training is taken by another process, and the next owner continues with all results so far.
"""

import secrets
import time
from collections.abc import Callable

from models.training.train import Diverged
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import JobCancelled, ProgressReporter
from worker.attempt.search_helper import SearchHelper
from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobProgress
from worker.search.coordinator import LimitsNotMet, SearchCoordinator
from worker.search.shared_search import WAIT_S, open_search


def run_search(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Search, train the finalists again, register the winner.

    Raises:
        JobCancelled: a client has cancelled the job.
        JobInterrupted: `stop_requested` returned True; the results so far are kept.
        LimitsNotMet: no candidate keeps within the limits.
        Diverged: no finalist could be trained.
    """
    reporter = ProgressReporter(attempt, stop_requested)
    # A new name for each run: unfinished trainings of an earlier run of this process are released.
    shared = open_search(reporter, jobs, owner=f"{attempt.holder}/{secrets.token_hex(2)}")
    coordinator = SearchCoordinator(shared, attempt)
    try:
        coordinator.search()
        coordinator.retrain()
        attempt.succeed(coordinator.register())
    except (JobCancelled, LimitsNotMet, Diverged):
        shared.close()
        raise
    shared.close()


def help_search(helper: SearchHelper, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Train for a search until it is over, or its job has no owner any more."""
    if helper.cancel_requested():
        return
    reporter = ProgressReporter(helper, stop_requested)
    shared = open_search(reporter, jobs, owner=helper.name)
    while True:
        called, busy = shared.rungs.finals_scheduled(), False
        for progress in shared.finals() if called else shared.candidates():
            busy = True
            if reporter.is_due:
                reporter.report("helping", JobProgress(percent=100 * progress.fraction), {})
        if busy:
            continue
        if called or helper.is_orphaned():
            return
        reporter.report("waiting", JobProgress(), {})
        time.sleep(WAIT_S)
