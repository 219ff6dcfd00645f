"""Invariants of jobs, checked on their recorded transitions: none lost, doubled or illegal."""

from dataclasses import dataclass, field

from worker.ledger.ledger import Ledger
from worker.ledger.records import Records
from worker.registry.registry import Registry
from worker.schemas.jobs import MOVES, TERMINAL, JobRecord


@dataclass
class Verdict:
    """Violations among the accepted jobs, as text; all lists are empty if there are none."""

    accepted: int = 0
    lost: list[str] = field(default_factory=list)  # have not ended
    doubled: list[str] = field(default_factory=list)  # have made more than one version
    broken: list[str] = field(default_factory=list)  # have made an illegal transition

    def __iadd__(self, other: "Verdict") -> "Verdict":
        self.accepted += other.accepted
        self.lost += other.lost
        self.doubled += other.doubled
        self.broken += other.broken
        return self

    @property
    def complaints(self) -> list[str]:
        """All violations."""
        return self.lost + self.doubled + self.broken


def judge(ledger: Ledger, job_ids: list[str]) -> Verdict:
    """Check the invariants of these jobs."""
    verdict = Verdict(accepted=len(job_ids))
    for job_id in job_ids:
        history = history_of(ledger.records, job_id)
        verdict.broken += [f"{job_id} {what}" for what in _unlawful(history)]
        if not history[-1].terminal:
            verdict.lost.append(f"{job_id} is {history[-1].status}")
    registry = Registry(ledger.storage)
    origins = [card.origin for name in registry.names() for card in registry.versions(name)]
    verdict.doubled = [
        f"{job_id} has made {origins.count(job_id)} versions"
        for job_id in job_ids
        if origins.count(job_id) > 1
    ]
    return verdict


def history_of(records: Records, job_id: str) -> list[JobRecord]:
    """All revisions of a job, oldest first."""
    chain = [records.first(job_id)]
    while (newer := records.after(chain[-1])) is not None:
        chain.append(newer)
    return chain


def _unlawful(history: list[JobRecord]) -> list[str]:
    found = []
    for before, after in zip(history, history[1:], strict=False):
        if after.status not in MOVES[before.status]:
            found.append(f"moved from {before.status} to {after.status}")
        if before.status in TERMINAL:
            found.append("moved after its end")
        was_queued_again = (before.status, after.status) == ("running", "queued")
        if was_queued_again and after.attempt != before.attempt + 1:
            found.append("was queued again as the same attempt")
        if after.revision != before.revision + 1 or after.moved_at < before.moved_at:
            found.append("went back in time")
    return found
