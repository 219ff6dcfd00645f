"""Reconciler: queues jobs of dead processes again, and delivers jobs that the queue has lost.

Every worker and every API process polls for the turn, and one gets it. If two run at once, the
ledger's compare-and-set lets only one of them move a job.
"""

import logging
from collections.abc import Sequence

from worker.ledger.artifacts import SCRATCH
from worker.ledger.idempotency import forget_old
from worker.ledger.ledger import Ledger
from worker.ledger.records import JobNotFound, Records
from worker.queue.queue import JobQueue
from worker.registry.image_links import ImageLinks
from worker.registry.registry import Registry
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import JobRecord, is_id
from worker.schemas.requests import QUEUES

logger = logging.getLogger(__name__)

RECONCILE_S = 5.0
FORGET_EVERY_S = 3600.0


def reconcile_in_turn(jobs: JobQueue) -> None:
    """Reconcile, and once an hour delete what has expired, each if this process gets its turn."""
    # Less than RECONCILE_S, so that a process that polls at that interval finds the turn free.
    if jobs.leases.take_turn("reconcile", 0.8 * RECONCILE_S):
        reconcile(jobs)
    if jobs.leases.take_turn("forget", FORGET_EVERY_S):
        forget_old(jobs.ledger.storage)
        ImageLinks(jobs.ledger.storage, jobs.settings.link_ttl_s).sweep()
        Registry(jobs.ledger.storage).removals.finish_all()
        sweep(jobs.ledger.records)


def reconcile(jobs: JobQueue) -> None:
    """Queue jobs again whose lease has run out; deliver queued ones that the queue has lost."""
    can_be_judged = jobs.leases.can_be_judged()
    jobs.drop_old_queue()
    waiting = {job_id for queue in QUEUES for job_id in jobs.waiting(queue)}
    active = list(jobs.ledger.active())
    refresh_index(jobs.ledger, active)
    for record in active:
        if record.is_running:
            assert record.held_by is not None
            if can_be_judged and not jobs.leases.is_held(record.held_by):
                jobs.release(record)
        elif record.is_due and record.id not in waiting and not jobs.is_underway(record.id):
            logger.warning("job %s was not on the queue; delivering it", record.id)
            jobs.deliver(record)


def refresh_index(ledger: Ledger, active: Sequence[JobRecord]) -> None:
    """Update the index for all active jobs, and for those that it wrongly lists as not ended."""
    ledger.index.put_all(active)
    for job_id in ledger.index.unended() - {record.id for record in active}:
        try:
            ledger.index.put(ledger.records.read(job_id))
        except JobNotFound:
            ledger.index.remove(job_id)
        except RecordDamaged:  # it stays where it was last listed
            continue


def sweep(records: Records) -> None:
    """Delete scratch files that processes stored for a job after it had ended."""
    for job_id in records.storage.folders(SCRATCH):
        if is_id("job", job_id) and not records.is_marked(job_id):
            records.close(job_id)
