"""What makes up for all that delivery and processes lose: jobs nobody runs, and jobs nobody brings.

Every worker and every API process asks for the turn; one has it. Were there two, the ledger would
let only one of them move a job.
"""

import logging

from worker.artifacts import SCRATCH
from worker.direct_uploads import forget_abandoned
from worker.idempotency import forget_old
from worker.links import Links
from worker.queue import JobQueue
from worker.records import Records

logger = logging.getLogger(__name__)

RECONCILE_S = 5.0
FORGET_EVERY_S = 3600.0


def reconcile_in_turn(jobs: JobQueue) -> None:
    """Look after all jobs, if nobody has done so within the last seconds."""
    # A little less, so that a process that comes by every RECONCILE_S does not just miss it.
    if jobs.leases.take_turn("reconcile", 0.8 * RECONCILE_S):
        reconcile(jobs)
    if jobs.leases.take_turn("forget", FORGET_EVERY_S):
        forget_old(jobs.ledger.storage)
        Links(jobs.ledger.storage, jobs.settings.link_ttl_s).sweep()
        forget_abandoned(jobs.ledger.storage)
        sweep(jobs.ledger.records)


def reconcile(jobs: JobQueue) -> None:
    """Queue jobs again whose process went silent; deliver those that are not on the queue."""
    can_be_judged = jobs.leases.can_be_judged()
    waiting = set(jobs.waiting())
    for record in jobs.ledger.active():
        if record.is_running:
            assert record.held_by is not None
            if can_be_judged and not jobs.leases.is_held(record.held_by):
                jobs.release(record)
        elif record.is_due and record.id not in waiting and not jobs.is_underway(record.id):
            logger.warning("job %s was not on the queue; delivering it", record.id)
            jobs.deliver(record)


def sweep(records: Records) -> None:
    """Delete what processes still stored for a job when it had ended."""
    for job_id in records.storage.folders(SCRATCH):
        if not records.is_marked(job_id):
            records.close(job_id)
