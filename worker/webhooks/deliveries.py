"""Webhook deliveries: the state of each, its attempts, and the time of the next one.

All of it is in object storage. A delivery's state is a revision chain, like a job's record, so no
concurrent write is lost. For each pending delivery there is a mark whose key starts with the time
of the next attempt, so that one listing shows what is due. Marks are hints: the process that finds
one that disagrees with the state corrects it.
"""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import BaseModel

from worker.revision_chain import RevisionChain
from worker.schemas.jobs import JobRecord, now
from worker.schemas.webhook_request import Webhook
from worker.storage import ObjectExists, Storage

PENDING = "webhooks/pending"
DELIVERIES = "webhooks/deliveries"
# Pauses between attempts: 45 minutes in all, enough to restart or repair a receiver.
BACKOFF_S = (5.0, 15.0, 45.0, 120.0, 300.0, 600.0, 720.0, 900.0)
JITTER = 0.1  # largest part added to a pause: spreads deliveries that failed together
ATTEMPTS_KEPT = 50

Reason = Literal[
    "timed out",
    "refused",
    "unreachable",
    "not a public address",
    "not https",
    "name not resolved",
    "tls",
    "broken off",
]


class NoWebhook(LookupError):
    """The job has no webhook, or its webhook is not notified of this end."""


class NotAnnounced(RuntimeError):
    """The job has not ended, or its webhook is not notified of this end."""


class DeliveryAttempt(BaseModel):
    """One attempt to deliver: the response's status code or, without a response, the error.

    Nothing else of a response is kept: it may come from a private network.
    """

    at: datetime
    status_code: int | None = None
    error: Reason | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether the receiver answered with a 2xx status."""
        return self.status_code is not None and 200 <= self.status_code < 300


class Delivery(BaseModel):
    """State of a job's webhook delivery."""

    job_id: str
    revision: int = 0
    status: Literal["pending", "delivered", "failed"] = "pending"
    failures: int = 0  # since the job ended or redelivery was last requested
    attempts: list[DeliveryAttempt] = []
    next_attempt_at: datetime | None

    def after(self, attempt: DeliveryAttempt, backoff_s: tuple[float, ...]) -> "Delivery":
        """The state after one more attempt."""
        attempts = [*self.attempts, attempt][-ATTEMPTS_KEPT:]
        changes: dict[str, object] = {"revision": self.revision + 1, "attempts": attempts}
        if self.status == "pending":
            changes |= self._outcome(attempt, backoff_s)
        return self.model_copy(update=changes)

    def restarted(self) -> "Delivery":
        """The state after a request for redelivery: pending, due now, without failures."""
        changes = {"revision": self.revision + 1, "status": "pending", "failures": 0}
        return self.model_copy(update={**changes, "next_attempt_at": _truncate_to_ms(now())})

    @property
    def is_due(self) -> bool:
        """Whether the next attempt is due."""
        return self.next_attempt_at is not None and self.next_attempt_at <= now()

    def _outcome(self, attempt: DeliveryAttempt, backoff_s: tuple[float, ...]) -> dict[str, object]:
        if attempt.has_succeeded:
            return {"status": "delivered", "next_attempt_at": None}
        # 410 Gone: by Standard Webhooks, the receiver wants no more messages.
        if attempt.status_code == 410 or self.failures >= len(backoff_s):
            return {"status": "failed", "failures": self.failures + 1, "next_attempt_at": None}
        pause_s = backoff_s[self.failures] * random.uniform(1, 1 + JITTER)
        due = _truncate_to_ms(now() + timedelta(seconds=pause_s))
        return {"failures": self.failures + 1, "next_attempt_at": due}


class Mark(NamedTuple):
    """An entry of the pending list: the job whose end is to be delivered, and when."""

    due: datetime
    job_id: str

    @property
    def key(self) -> str:
        """Storage key; keys sort by due time."""
        return f"{PENDING}/{round(self.due.timestamp() * 1000):014d}-{self.job_id}"

    @classmethod
    def of(cls, key: str) -> "Mark | None":
        """The mark with this key; None if the key is not a mark's."""
        found = re.fullmatch(rf"{PENDING}/(\d{{14}})-(job_[0-9a-z]{{20}})", key)
        return found and cls(datetime.fromtimestamp(int(found[1]) / 1000, UTC), found[2])


class Deliveries:
    """All webhook deliveries in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def open(self, record: JobRecord) -> None:
        """Schedule the delivery of a job's end if its webhook wants it.

        Calling it twice has no further effect.
        """
        if is_announced(record):
            self._mark(record.id, _first_due(record))

    def read(self, record: JobRecord) -> Delivery:
        """The state of a job's delivery; computed, not stored, before the first attempt.

        Raises:
            NoWebhook: the job has no webhook, or has ended in a way that is not announced.
        """
        webhook(record)
        if record.terminal and not is_announced(record):
            raise NoWebhook(f"its webhook is not told of jobs that end as {record.status}")
        newest = self._chain(record.id).newest()
        if newest is not None:
            return newest
        due = _first_due(record) if record.terminal else None
        return Delivery(job_id=record.id, next_attempt_at=due)

    def due(self) -> Iterator[Mark]:
        """The marks that are due, the longest overdue first."""
        moment = now()
        for mark in map(Mark.of, self.storage.keys(PENDING)):
            if mark is not None and mark.due > moment:
                return
            if mark is not None:
                yield mark

    def add(
        self, record: JobRecord, attempt: DeliveryAttempt, backoff_s: tuple[float, ...]
    ) -> Delivery:
        """Record the outcome of an attempt; `settle` corrects the marks later."""
        while True:
            delivery = self.read(record).after(attempt, backoff_s)
            if self._append(delivery):
                return delivery

    def redeliver(self, record: JobRecord) -> Delivery:
        """Deliver a job's end again, beginning with the first attempt.

        Raises:
            NoWebhook: the job has no webhook.
            NotAnnounced: it has not ended, or its webhook is not notified of this end.
        """
        events = webhook(record).events
        if not record.terminal:
            raise NotAnnounced(f"the job is {record.status}; its webhook is told when it ends")
        if not is_announced(record):
            told = ", ".join(events)
            raise NotAnnounced(f"the job is {record.status}; its webhook is told of: {told}")
        while True:
            delivery = self.read(record)
            if not delivery.is_due:
                delivery = delivery.restarted()
                if not self._append(delivery):
                    continue
            assert delivery.next_attempt_at is not None
            # If this process dies before this, the client has no 202 response and retries.
            self._mark(record.id, delivery.next_attempt_at)
            return delivery

    def settle(self, mark: Mark, delivery: Delivery) -> None:
        """Make the marks agree with the state. The old one goes last, so a crash loses nothing."""
        due = delivery.next_attempt_at
        if due == mark.due:
            return
        if due is not None:
            self._mark(mark.job_id, due)
        self.remove(mark)

    def remove(self, mark: Mark) -> None:
        """Delete a mark."""
        self.storage.delete(mark.key)

    def delete(self, job_id: str) -> None:
        """Delete the state of a deleted job's delivery; a mark that is left is deleted when due."""
        self._chain(job_id).delete()

    def _mark(self, job_id: str, due: datetime) -> None:
        self.storage.put(Mark(due, job_id).key, b"")

    def _append(self, delivery: Delivery) -> bool:
        """Append a revision; False if another process has appended this number first."""
        try:
            self._chain(delivery.job_id).append(delivery.revision, delivery)
        except ObjectExists:
            return False
        return True

    def _chain(self, job_id: str) -> RevisionChain[Delivery]:
        return RevisionChain(self.storage, f"{DELIVERIES}/{job_id}", Delivery, "webhook")


def webhook(record: JobRecord) -> Webhook:
    """The job's webhook; raises NoWebhook where it has none."""
    if record.request.webhook is None:
        raise NoWebhook("the job was submitted without a webhook")
    return record.request.webhook


def is_announced(record: JobRecord) -> bool:
    """Whether the job has ended in a way that its webhook is notified of."""
    return record.request.webhook is not None and record.status in record.request.webhook.events


def message_id(job_id: str) -> str:
    """The `webhook-id` header: the same for all attempts and redeliveries of a job.

    It is an idempotency key: receivers ignore an id that they have processed. So a redelivery has
    an effect only if earlier deliveries were lost.
    """
    return f"msg_{job_id.removeprefix('job_')}"


def _first_due(record: JobRecord) -> datetime:
    # A fixed time, so that setting the mark twice creates one mark.
    return _truncate_to_ms(record.moved_at)


def _truncate_to_ms(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
