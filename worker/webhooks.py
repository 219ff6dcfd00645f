"""Announcements of jobs' ends: what is to be sent, what became of each attempt, when is the next.

All of it is in object storage. A delivery's state is a chain of revisions, like a job's record, so
that nothing that two processes write is lost. A mark named after the time of the next attempt shows
what is due with one listing; marks are hints, and whoever finds one that the state contradicts puts
it right.
"""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from worker.announcements import Webhook
from worker.jobs import JobRecord, now
from worker.records import RecordDamaged
from worker.storage import ObjectExists, Storage

PENDING = "webhooks/pending"
DELIVERIES = "webhooks/deliveries"
# Between attempts: 45 minutes in all, so that a receiver may be restarted, or repaired.
BACKOFF_S = (5.0, 15.0, 45.0, 120.0, 300.0, 600.0, 720.0, 900.0)
JITTER = 0.1  # of each pause: those who failed together do not come again together
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
    """The job was submitted without one."""


class NothingAnnounced(RuntimeError):
    """The job has not ended, or not in a way that its webhook is told of."""


class Attempt(BaseModel):
    """One attempt: the status code of the answer or, where there was none, why.

    Nothing else of an answer is kept: it may come from where no client should see.
    """

    at: datetime
    status_code: int | None = None
    error: Reason | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status_code is not None and 200 <= self.status_code < 300


class Delivery(BaseModel):
    """How far an announcement is."""

    job_id: str
    revision: int = 0
    status: Literal["pending", "delivered", "failed"] = "pending"
    failures: int = 0  # since it was asked for, first or anew
    attempts: list[Attempt] = []
    next_attempt_at: datetime | None

    def after(self, attempt: Attempt, backoff_s: tuple[float, ...]) -> "Delivery":
        """The state after one more attempt."""
        attempts = [*self.attempts, attempt][-ATTEMPTS_KEPT:]
        changes: dict[str, object] = {"revision": self.revision + 1, "attempts": attempts}
        if self.status == "pending":
            changes |= self._outcome(attempt, backoff_s)
        return self.model_copy(update=changes)

    def anew(self) -> "Delivery":
        """The state once it has been asked for again, whatever became of it before."""
        changes = {"revision": self.revision + 1, "status": "pending", "failures": 0}
        return self.model_copy(update={**changes, "next_attempt_at": _to_the_millisecond(now())})

    @property
    def is_due(self) -> bool:
        """Whether it is to be attempted now."""
        return self.next_attempt_at is not None and self.next_attempt_at <= now()

    def _outcome(self, attempt: Attempt, backoff_s: tuple[float, ...]) -> dict[str, object]:
        if attempt.has_succeeded:
            return {"status": "delivered", "next_attempt_at": None}
        # 410: the receiver asks for no more, as Standard Webhooks has it.
        if attempt.status_code == 410 or self.failures >= len(backoff_s):
            return {"status": "failed", "failures": self.failures + 1, "next_attempt_at": None}
        pause_s = backoff_s[self.failures] * random.uniform(1, 1 + JITTER)
        due = _to_the_millisecond(now() + timedelta(seconds=pause_s))
        return {"failures": self.failures + 1, "next_attempt_at": due}


class Mark(NamedTuple):
    """Says that a job's end is to be announced, and when."""

    due: datetime
    job_id: str

    @property
    def key(self) -> str:
        """Where it lies: a listing has the earliest first."""
        return f"{PENDING}/{round(self.due.timestamp() * 1000):014d}-{self.job_id}"

    @classmethod
    def of(cls, key: str) -> "Mark | None":
        """The mark at this key, where it is one."""
        found = re.fullmatch(rf"{PENDING}/(\d{{14}})-(job_[0-9a-z]{{20}})", key)
        return found and cls(datetime.fromtimestamp(int(found[1]) / 1000, UTC), found[2])


class Deliveries:
    """All announcements in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def open(self, record: JobRecord) -> None:
        """See that the end of a job is announced, where somebody wants that. Twice is once."""
        if is_announced(record):
            self._mark(record.id, _first_due(record))

    def read(self, record: JobRecord) -> Delivery:
        """How far a job's announcement is. Before the first attempt nothing is stored of it.

        Raises:
            NoWebhook: there is none, and will be none.
        """
        webhook(record)
        if record.terminal and not is_announced(record):
            raise NoWebhook(f"its webhook is not told of jobs that end as {record.status}")
        keys = list(self.storage.keys(_folder(record.id)))
        if not keys:
            due = _first_due(record) if record.terminal else None
            return Delivery(job_id=record.id, next_attempt_at=due)
        try:
            return Delivery.model_validate_json(self.storage.read(keys[-1]))
        except ValidationError as error:
            raise RecordDamaged(f"the delivery of {record.id} is damaged") from error

    def due(self) -> Iterator[Mark]:
        """The marks whose time has come, the longest overdue first."""
        moment = now()
        for mark in map(Mark.of, self.storage.keys(PENDING)):
            if mark is not None and mark.due > moment:
                return
            if mark is not None:
                yield mark

    def add(self, record: JobRecord, attempt: Attempt, backoff_s: tuple[float, ...]) -> Delivery:
        """Write down what became of an attempt; its marks are settled later."""
        while True:
            delivery = self.read(record).after(attempt, backoff_s)
            if self._append(delivery):
                return delivery

    def redeliver(self, record: JobRecord) -> Delivery:
        """Have a job's end announced once more, from the first attempt on.

        Raises:
            NoWebhook: it has no webhook.
            NothingAnnounced: it has not ended, or its webhook is not told of such ends.
        """
        events = webhook(record).events
        if not record.terminal:
            raise NothingAnnounced(f"the job is {record.status}; its webhook is told when it ends")
        if not is_announced(record):
            told = ", ".join(events)
            raise NothingAnnounced(f"the job is {record.status}; its webhook is told of: {told}")
        while True:
            delivery = self.read(record)
            if not delivery.is_due:
                delivery = delivery.anew()
                if not self._append(delivery):
                    continue
            assert delivery.next_attempt_at is not None
            # Should this process die before, nobody was told 202, and asks again.
            self._mark(record.id, delivery.next_attempt_at)
            return delivery

    def settle(self, mark: Mark, delivery: Delivery) -> None:
        """Make the marks agree with the state. The old one goes last, so that this is repeated."""
        due = delivery.next_attempt_at
        if due == mark.due:
            return
        if due is not None:
            self._mark(mark.job_id, due)
        self.remove(mark)

    def remove(self, mark: Mark) -> None:
        """Take a mark away."""
        self.storage.delete(mark.key)

    def _mark(self, job_id: str, due: datetime) -> None:
        self.storage.put(Mark(due, job_id).key, b"")

    def _append(self, delivery: Delivery) -> bool:
        """Whether this was the next revision, and not another process's."""
        key = f"{_folder(delivery.job_id)}/{delivery.revision:06d}.json"
        data = delivery.model_dump_json().encode()
        try:
            self.storage.create(key, data)
        except ObjectExists:
            # Perhaps it is ours, and only the store's answer was lost.
            return self.storage.read(key) == data
        return True


def webhook(record: JobRecord) -> Webhook:
    """The job's webhook; raises NoWebhook where it has none."""
    if record.request.webhook is None:
        raise NoWebhook("the job was submitted without a webhook")
    return record.request.webhook


def is_announced(record: JobRecord) -> bool:
    """Whether the job has ended in a way that its webhook is told of."""
    return record.request.webhook is not None and record.status in record.request.webhook.events


def message_id(job_id: str) -> str:
    """The `webhook-id`: one for all attempts, and for redeliveries too.

    Receivers know by it what they have had already. So whoever asks for a redelivery need not know
    whether the first one has arrived: it takes effect where that was lost, and only there.
    """
    return f"msg_{job_id.removeprefix('job_')}"


def _first_due(record: JobRecord) -> datetime:
    # The same time whenever it is asked for, so that a mark that is set twice is one.
    return _to_the_millisecond(record.moved_at)


def _to_the_millisecond(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _folder(job_id: str) -> str:
    return f"{DELIVERIES}/{job_id}"
