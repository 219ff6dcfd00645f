"""The nas job: from an uploaded data set to a registered model of a searched architecture.

One process owns the job. It and its helpers take trainings from a shared study, so that any of them
may die. Whoever claims the job later goes on with what has been found out.
"""

import secrets
import time
from collections.abc import Callable

from models.train import Diverged
from worker.claims import Claim
from worker.jobs import JobProgress
from worker.lead import Lead, LimitsNotMet
from worker.queue import JobQueue
from worker.seats import Seat
from worker.shared_search import WAIT_S, open_search
from worker.watch import JobCancelled, Watch


def run_search(claim: Claim, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Search, train the best once more, register the winner.

    Raises:
        JobCancelled: a client asked for it.
        JobInterrupted: `stop_requested` said so; what has been found out stays.
        LimitsNotMet: nothing keeps to the limits.
        Diverged: no finalist could be trained.
    """
    watch = Watch(claim, stop_requested)
    # A name for this run: what an earlier one of this process has left undone must be released.
    shared = open_search(watch, jobs, owner=f"{claim.holder}/{secrets.token_hex(2)}")
    lead = Lead(shared, claim)
    try:
        lead.search()
        lead.retrain()
        claim.succeed(lead.register())
    except (JobCancelled, LimitsNotMet, Diverged):
        shared.forget()
        raise
    shared.forget()


def help_search(seat: Seat, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Train for a search until it is over, or nobody leads it any more."""
    if seat.cancel_requested():
        return
    watch = Watch(seat, stop_requested)
    shared = open_search(watch, jobs, owner=seat.name)
    while True:
        called, busy = shared.rungs.are_called(), False
        for progress in shared.finals() if called else shared.candidates():
            busy = True
            if watch.is_due:
                watch.show("helping", JobProgress(percent=100 * progress.fraction), {})
        if busy:
            continue
        if called or seat.is_orphaned():
            return
        watch.show("waiting", JobProgress(), {})
        time.sleep(WAIT_S)
