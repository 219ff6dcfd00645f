"""What may be said of a job's recorded transitions, whatever befell it."""

from worker.jobs import MOVES, TERMINAL, JobRecord
from worker.ledger import Ledger
from worker.registry import Registry


def broken_promises(ledger: Ledger, job_ids: list[str]) -> list[str]:
    """Every promise that the records of these jobs break, in words; none if all is well."""
    broken = []
    for job_id in job_ids:
        history = ledger.history(job_id)
        broken += [f"{job_id}: {what}" for what in _of(history)]
        if not history[-1].terminal:
            broken.append(f"{job_id} has not ended: {history[-1].status}")
    return broken + _doubled(ledger, job_ids)


def _of(history: list[JobRecord]) -> list[str]:
    broken = []
    for before, after in zip(history, history[1:], strict=False):
        if after.status not in MOVES[before.status]:
            broken.append(f"moved from {before.status} to {after.status}")
        if before.status in TERMINAL:
            broken.append("moved after its end")
        if (before.status, after.status) == ("running", "queued") and (
            after.attempt != before.attempt + 1
        ):
            broken.append("was queued again as the same attempt")
        if after.revision != before.revision + 1 or after.moved_at < before.moved_at:
            broken.append("went back in time")
    return broken


def _doubled(ledger: Ledger, job_ids: list[str]) -> list[str]:
    registry = Registry(ledger.storage)
    origins = [card.origin for name in registry.names() for card in registry.versions(name)]
    return [f"{job} has made {origins.count(job)} versions" for job in job_ids
            if origins.count(job) > 1]  # fmt: skip
