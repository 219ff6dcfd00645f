"""Retention: deletes jobs that ended long ago, with all their files."""

import logging
from collections.abc import Iterator
from datetime import timedelta

from worker.ledger.job_index import rebuild
from worker.ledger.ledger import Ledger
from worker.ledger.records import JobNotFound
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import first_id_at, now

logger = logging.getLogger(__name__)


def expired(ledger: Ledger, age: timedelta) -> Iterator[str]:
    """Ids of jobs that ended more than `age` ago or are partly deleted; raises RedisError."""
    if not ledger.index.is_complete:
        for _ in rebuild(ledger.index, ledger.records):
            pass
    limit = now() - age
    for job_id in ledger.index.ended_before(first_id_at("job", limit)):
        try:
            record = ledger.records.read(job_id)
        except JobNotFound:  # a process died while it was deleting this job
            yield job_id
            continue
        except RecordDamaged:  # how long ago it ended is unknown: it is kept
            continue
        if record.finished_at is not None and record.finished_at < limit:
            yield job_id


def prune(ledger: Ledger, age: timedelta) -> Iterator[str]:
    """Delete the jobs that ended more than `age` ago; yields the id of each once it is gone.

    Raises:
        RedisError, StorageError: what is left is deleted by the next call.
    """
    for job_id in expired(ledger, age):
        ledger.delete(job_id)
        logger.info("deleted job %s, which ended more than %d days ago", job_id, age.days)
        yield job_id
