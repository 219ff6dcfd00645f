"""Delivery of jobs by RQ, and what the API needs of the job system.

RQ carries one argument, our job id, as JSON. Nothing is inferred from its registries: a delivery
that comes twice finds the job claimed, and one that never comes is sent again from the ledger.
"""

import logging
import secrets

from redis import Redis, RedisError
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from worker.events import Events
from worker.jobs import JobRecord, JobStatus
from worker.leases import Leases
from worker.ledger import Ledger
from worker.receivers import Receivers
from worker.requests import JobRequest, JobType
from worker.settings import Settings
from worker.storage import Storage

logger = logging.getLogger(__name__)

QUEUE_NAME = "vitrine"
TASK = "worker.tasks.run_job"  # by name: who submits never imports what runs
HELP_TASK = "worker.tasks.help_job"
# From the queue to the claim: a worker takes the entry, and starts a process that loads torch.
UNDERWAY_S = 15


class QueueFull(RuntimeError):
    """As many jobs wait as the operator allows."""


class JobQueue:
    """What the API needs of the job system: submit, fetch, list, cancel."""

    def __init__(self, ledger: Ledger, redis_binary: Redis, settings: Settings) -> None:
        self.ledger = ledger
        self.leases = ledger.leases
        self.settings = settings
        self.receivers = Receivers(private=settings.webhook_private)
        self.queue = Queue(
            QUEUE_NAME, connection=redis_binary, serializer=JSONSerializer, default_timeout=-1
        )

    def submit(
        self, job_type: JobType, request: JobRequest, job_id: str | None = None
    ) -> JobRecord:
        """Record the job, then deliver it. Once recorded it will run, whatever befalls Redis.

        Where there is a job with this id, its first revision is returned, and nothing is done.

        Raises:
            QueueFull: `max_queued_jobs` jobs wait already.
            ReceiverRefused, Unresolved: its webhook cannot be sent where it says.
        """
        if job_id is not None and (known := self.ledger.records.find(job_id)) is not None:
            return known
        if self.queue.count >= self.settings.max_queued_jobs:
            raise QueueFull(f"{self.settings.max_queued_jobs} jobs are waiting; try again later")
        if request.webhook is not None:
            self.receivers.check(request.webhook.url)
        record = JobRecord.new(job_type, request, job_id)
        if not self.ledger.create(record):
            return self.ledger.records.first(record.id)
        try:
            self.deliver(record)
        except RedisError:
            logger.warning("Redis is away: job %s is delivered later", record.id)
        return record

    def deliver(self, record: JobRecord) -> None:
        """Put the job's id on the queue, unless its next attempt is to wait."""
        if not record.is_due:
            return
        # A name of its own for each delivery: RQ deletes the entry of one that has ended, and must
        # not delete that of another still on its way.
        delivery_id = f"{record.id}-{secrets.token_hex(4)}"
        self.mark_underway(record.id)
        self.queue.enqueue(TASK, record.id, job_id=delivery_id, result_ttl=0, failure_ttl=86_400)

    def mark_underway(self, job_id: str) -> None:
        """The job is just being put on the queue, or taken from it."""
        self.leases.redis.set(_underway_key(job_id), 1, ex=UNDERWAY_S)

    def is_underway(self, job_id: str) -> bool:
        """Whether either was so a moment ago."""
        return bool(self.leases.redis.exists(_underway_key(job_id)))

    def invite(self, job_id: str, wanted: int) -> None:
        """See that so many helpers are at a job, or on their way to it."""
        known = self._helpers(job_id)
        waiting = set(self.queue.get_job_ids())
        here = [name for name in known if name in waiting or self.leases.is_held(name)]
        for gone in known - set(here):
            self.leases.redis.srem(_helpers_key(job_id), gone)
        for _ in range(wanted - len(here)):
            name = f"help-{job_id}-{secrets.token_hex(4)}"
            self.leases.redis.sadd(_helpers_key(job_id), name)
            self.leases.renew(name)  # until it has started
            self.queue.enqueue(
                HELP_TASK, job_id, name, job_id=name, result_ttl=0, failure_ttl=86_400
            )

    def workers(self) -> int:
        """How many there are, busy or not."""
        return Worker.count(queue=self.queue)

    def dismiss(self, job_id: str) -> None:
        """Call off the helpers that are still on their way; the others see that the job ends."""
        for name in self._helpers(job_id):
            self.queue.remove(name)
        self.leases.redis.delete(_helpers_key(job_id))

    def fetch(self, job_id: str) -> JobRecord:
        """See `Ledger.fetch`."""
        return self.ledger.fetch(job_id)

    def position(self, record: JobRecord) -> int | None:
        """How many jobs are before a queued one; None when it does not wait."""
        if record.status != "queued":
            return None
        waiting = self.waiting()
        return waiting.index(record.id) if record.id in waiting else 0

    def page(
        self, job_type: JobType | None, status: JobStatus | None, limit: int, after: str | None
    ) -> tuple[list[JobRecord], bool]:
        """Jobs newest first, from behind `after`, and whether there are more."""
        found: list[JobRecord] = []
        for job_id in self.ledger.records.ids():
            if after is not None and job_id >= after:
                continue
            record = self.ledger.fetch(job_id)
            if job_type in (None, record.type) and status in (None, record.status):
                found.append(record)
            if len(found) > limit:
                return found[:limit], True
        return found, False

    def cancel(self, job_id: str) -> JobRecord:
        """See `Ledger.cancel`."""
        return self.ledger.cancel(job_id)

    def bury(self, job_id: str, delivery_id: str) -> None:
        """The process of a delivery has died: its job is queued again, within its budget."""
        self.leases.drop(delivery_id)
        record = self.ledger.records.read(job_id)
        # Where it died before it could claim the job, nobody runs it.
        if record.held_by == delivery_id or record.status == "queued":
            self.release(record)

    def release(self, record: JobRecord) -> None:
        """What becomes of a job that nobody runs any more."""
        released = self.ledger.release(record, self.settings.max_attempts)
        if released is None:
            return
        logger.warning("the process of job %s has died; it is %s", record.id, released.status)
        if released.status == "queued":
            self.deliver(released)

    def waiting(self) -> list[str]:
        """Ids of the jobs on the queue, in its order."""
        # Those of helpers start with another word.
        return [delivery_id.split("-")[0] for delivery_id in self.queue.get_job_ids()]

    def _helpers(self, job_id: str) -> set[str]:
        return {str(name) for name in self.leases.redis.smembers(_helpers_key(job_id))}


def _helpers_key(job_id: str) -> str:
    return f"vitrine:helpers:{job_id}"


def _underway_key(job_id: str) -> str:
    return f"vitrine:underway:{job_id}"


def connect(url: str, *, patience_s: float, decode: bool = True) -> Redis:
    """A client that gives up, by raising, about `patience_s` after Redis went away."""
    return Redis.from_url(
        url,
        decode_responses=decode,
        socket_connect_timeout=1.0,
        socket_timeout=5.0,
        retry=Retry(ConstantBackoff(0.5), int(patience_s / 0.5)),
    )


def open_queue(settings: Settings, storage: Storage, *, patience_s: float) -> JobQueue:
    """The job system of these settings."""
    assert settings.redis_url is not None
    redis = connect(settings.redis_url, patience_s=patience_s)
    # RQ wants a connection of its own: it decodes by itself, and blocks while it waits for work.
    binary = connect(settings.redis_url, patience_s=patience_s, decode=False)
    ledger = Ledger(storage, Leases(redis, settings.lease_s), Events(redis))
    return JobQueue(ledger, binary, settings)
