"""Delivery of jobs by RQ, and the reconciler that makes up for what delivery loses.

RQ carries one argument, our job id, as JSON. Nothing is inferred from its registries: a delivery
that comes twice finds the job claimed, and one that never comes is sent again from the ledger.
"""

import logging
import secrets
from datetime import timedelta

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from worker.jobs import JobRecord, JobStatus, now
from worker.ledger import Ledger
from worker.requests import JobRequest, JobType
from worker.settings import Settings
from worker.storage import Storage

logger = logging.getLogger(__name__)

QUEUE_NAME = "vitrine"
TASK = "worker.tasks.run_job"  # by name: who submits never imports what runs
HELP_TASK = "worker.tasks.help_job"
# A submit needs a moment between its record and its queue entry, a worker between entry and claim.
REDELIVER_AFTER = timedelta(seconds=15)


class QueueFull(RuntimeError):
    """As many jobs wait as the operator allows."""


class JobQueue:
    """What the API needs of the job system: submit, fetch, list, cancel."""

    def __init__(self, ledger: Ledger, redis_binary: Redis, settings: Settings) -> None:
        self.ledger = ledger
        self.settings = settings
        self.queue = Queue(
            QUEUE_NAME, connection=redis_binary, serializer=JSONSerializer, default_timeout=-1
        )

    def submit(self, job_type: JobType, request: JobRequest) -> JobRecord:
        """Record the job, then deliver it. Once recorded it will run, whatever befalls Redis.

        Raises:
            QueueFull: `max_queued_jobs` jobs wait already.
        """
        if self.queue.count >= self.settings.max_queued_jobs:
            raise QueueFull(f"{self.settings.max_queued_jobs} jobs are waiting; try again later")
        record = self.ledger.create(job_type, request)
        self.deliver(record)
        return record

    def deliver(self, record: JobRecord) -> None:
        """Put the job's id on the queue."""
        # A name of its own for each delivery: RQ deletes the entry of one that has ended, and must
        # not delete that of another still on its way.
        delivery_id = f"{record.id}-{secrets.token_hex(4)}"
        self.queue.enqueue(TASK, record.id, job_id=delivery_id, result_ttl=0, failure_ttl=86_400)

    def invite(self, job_id: str, wanted: int) -> None:
        """See that so many helpers are at a job, or on their way to it."""
        known = self._helpers(job_id)
        waiting = set(self.queue.get_job_ids())
        here = [name for name in known if name in waiting or self.ledger.is_leased(name)]
        for gone in known - set(here):
            self.ledger.redis.srem(_helpers_key(job_id), gone)
        for _ in range(wanted - len(here)):
            name = f"help-{job_id}-{secrets.token_hex(4)}"
            self.ledger.redis.sadd(_helpers_key(job_id), name)
            self.ledger.lease(name)  # until it has started
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
        self.ledger.redis.delete(_helpers_key(job_id))

    def fetch(self, job_id: str) -> JobRecord:
        """See `Ledger.fetch`."""
        return self.ledger.fetch(job_id)

    def position(self, record: JobRecord) -> int | None:
        """How many jobs are before a queued one; None when it does not wait."""
        if record.status != "queued":
            return None
        waiting = self._waiting()
        return waiting.index(record.id) if record.id in waiting else 0

    def page(
        self, job_type: JobType | None, status: JobStatus | None, limit: int, after: str | None
    ) -> tuple[list[JobRecord], bool]:
        """Jobs newest first, from behind `after`, and whether there are more."""
        found: list[JobRecord] = []
        for job_id in self.ledger.ids():
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

    def release_dead(self, job_id: str) -> None:
        """The process running this job has died: queue it again, within its budget."""
        self.ledger.drop_lease(job_id)
        self._release(job_id)

    def reconcile(self) -> None:
        """Requeue jobs whose process went silent; redeliver queued ones that RQ has lost."""
        waiting = set(self._waiting())
        for record in self.ledger.active():
            if record.status in ("running", "cancelling"):
                if not self.ledger.is_leased(record.id):
                    self._release(record.id)
            elif self._is_undelivered(record, waiting):
                logger.warning("job %s was not on the queue; delivering it again", record.id)
                self.deliver(record)

    def _waiting(self) -> list[str]:
        """Ids of the jobs on the queue, in its order."""
        # Those of helpers start with another word.
        return [delivery_id.split("-")[0] for delivery_id in self.queue.get_job_ids()]

    def _helpers(self, job_id: str) -> set[str]:
        return {str(name) for name in self.ledger.redis.smembers(_helpers_key(job_id))}

    def _is_undelivered(self, record: JobRecord, waiting: set[str]) -> bool:
        return record.id not in waiting and now() - record.created_at > REDELIVER_AFTER

    def _release(self, job_id: str) -> None:
        record = self.ledger.release_dead(job_id, self.settings.max_attempts)
        logger.warning("the process of job %s has died; it is %s", job_id, record.status)
        if record.status == "queued":
            self.deliver(record)


def _helpers_key(job_id: str) -> str:
    return f"vitrine:helpers:{job_id}"


def connect(url: str, *, patience_s: float) -> Redis:
    """A client that gives up, by raising, about `patience_s` after Redis went away."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=1.0,
        socket_timeout=5.0,
        retry=Retry(ConstantBackoff(0.5), int(patience_s / 0.5)),
    )


def open_queue(settings: Settings, storage: Storage, *, patience_s: float) -> JobQueue:
    """The job system of these settings."""
    assert settings.redis_url is not None
    redis = connect(settings.redis_url, patience_s=patience_s)
    # RQ wants a connection of its own: it decodes by itself, and blocks while it waits for work.
    binary = Redis.from_url(settings.redis_url, socket_connect_timeout=1.0)
    return JobQueue(Ledger(storage, redis, settings.lease_s), binary, settings)
