"""Job queue: delivers jobs by RQ; the API submits, lists and cancels jobs through it.

An RQ entry carries only our job id, as JSON. RQ's registries are not used: a delivery that arrives
twice finds the job claimed, and a lost one is sent again from the ledger.
"""

import logging
import secrets
from collections.abc import Callable, Iterator

from redis import Redis, RedisError
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from worker.ledger.events import Events
from worker.ledger.leases import Leases
from worker.ledger.ledger import Ledger
from worker.ledger.records import JobNotFound
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import JobRecord, JobStatus
from worker.schemas.requests import QUEUE_OF, QUEUES, JobRequest, JobType, QueueName
from worker.settings import Settings
from worker.storage import Storage
from worker.webhooks.targets import WebhookTargets

logger = logging.getLogger(__name__)

OLD_QUEUE = "vitrine"  # of earlier releases, for all types of jobs
HELPERS: QueueName = QUEUE_OF["nas"]
TASK = "worker.tasks.run_job"  # by name: the API must not import the code that runs jobs
HELP_TASK = "worker.tasks.help_job"
# From the queue to the claim: a worker takes the entry and starts a process that loads torch.
UNDERWAY_S = 15


class QueueFull(RuntimeError):
    """`max_queued_jobs` jobs are waiting in the queue already."""


def nothing() -> None:
    """For jobs that need nothing stored before they are recorded."""


class JobQueue:
    """The job system for its clients: submit, deliver, fetch, list and cancel jobs."""

    def __init__(self, ledger: Ledger, redis_binary: Redis, settings: Settings) -> None:
        self.ledger = ledger
        self.leases = ledger.leases
        self.settings = settings
        self.targets = WebhookTargets(private=settings.webhook_private)
        self.connection = redis_binary
        self.queues = {name: open_rq_queue(rq_name(name), redis_binary) for name in QUEUES}

    def submit(
        self,
        job_type: JobType,
        request: JobRequest,
        job_id: str | None = None,
        before: Callable[[], None] = nothing,
    ) -> JobRecord:
        """Record the job, then deliver it. Once recorded it will run, even if Redis is lost.

        `before` stores what the job needs, once it is known that the job is not refused. If there
        is a job with this id already, its first revision is returned and nothing is done.

        Raises:
            QueueFull: `max_queued_jobs` jobs are waiting in its queue already.
            TargetRefused, Unresolved: its webhook's URL is not allowed or cannot be resolved.
        """
        if job_id is not None and (known := self.ledger.records.find(job_id)) is not None:
            return known
        queue, most = QUEUE_OF[job_type], self.settings.max_queued_jobs
        if self.queues[queue].count >= most:
            raise QueueFull(f"{most} jobs are waiting in the queue {queue!r}; try again later")
        if request.webhook is not None:
            self.targets.check(request.webhook.url)
        before()
        record = JobRecord.new(job_type, request, job_id)
        if not self.ledger.create(record):
            return self.ledger.records.first(record.id)
        try:
            self.deliver(record)
        except RedisError:
            logger.warning("Redis is away: job %s is delivered later", record.id)
        return record

    def deliver(self, record: JobRecord) -> None:
        """Put the job's id on the queue of its type, unless its next attempt is not due yet."""
        if not record.is_due:
            return
        # A unique name for each delivery: RQ deletes the entry of one that has ended, and must not
        # delete that of another one that is still queued.
        delivery_id = f"{record.id}-{secrets.token_hex(4)}"
        self.mark_underway(record.id)
        queue = self.queues[QUEUE_OF[record.type]]
        queue.enqueue(TASK, record.id, job_id=delivery_id, result_ttl=0, failure_ttl=86_400)

    def drop_old_queue(self) -> None:
        """Drop the deliveries of an earlier release; the reconciler sends their jobs again."""
        old = open_rq_queue(OLD_QUEUE, self.connection)
        if old.count:
            old.delete()

    def mark_underway(self, job_id: str) -> None:
        """Record that the job is just being put on the queue, or taken from it."""
        self.leases.redis.set(_underway_key(job_id), 1, ex=UNDERWAY_S)

    def is_underway(self, job_id: str) -> bool:
        """Whether the job was put on the queue or taken from it within `UNDERWAY_S`."""
        return bool(self.leases.redis.exists(_underway_key(job_id)))

    def queue_helpers(self, job_id: str, wanted: int) -> None:
        """Queue search helpers for a job until `wanted` are running or queued."""
        known = self._helpers(job_id)
        queue = self.queues[HELPERS]
        waiting = set(queue.get_job_ids())
        here = [name for name in known if name in waiting or self.leases.is_held(name)]
        for gone in known - set(here):
            self.leases.redis.srem(_helpers_key(job_id), gone)
        for _ in range(wanted - len(here)):
            name = f"help-{job_id}-{secrets.token_hex(4)}"
            self.leases.redis.sadd(_helpers_key(job_id), name)
            self.leases.renew(name)  # covers the time until the helper has started
            queue.enqueue(HELP_TASK, job_id, name, job_id=name, result_ttl=0, failure_ttl=86_400)

    def remove_helpers(self, job_id: str) -> None:
        """Remove a job's queued helpers; running ones stop when they see that the job has ended."""
        for name in self._helpers(job_id):
            self.queues[HELPERS].remove(name)
        self.leases.redis.delete(_helpers_key(job_id))

    def fetch(self, job_id: str) -> JobRecord:
        """See `Ledger.fetch`."""
        return self.ledger.fetch(job_id)

    def page(
        self,
        job_type: JobType | None,
        status: JobStatus | None,
        limit: int,
        after: str | None,
        model: str | None = None,
    ) -> tuple[list[JobRecord], bool]:
        """Up to `limit` jobs older than the id `after`, newest first; whether more follow."""
        found: list[JobRecord] = []
        wanted = (job_type, status, model)
        for job_id in self._ids(wanted, limit + 1, after):
            try:
                record = self.ledger.live(self.ledger.records.read_cached(job_id))
            except JobNotFound:  # half deleted: the next `retention.prune` finds it in the index
                continue
            except RecordDamaged:  # it has been reported; `GET /jobs/{id}` answers so
                continue
            # The index may be a transition behind, or incomplete.
            shown = (record.type, record.status, record.model)
            if all(want in (None, value) for want, value in zip(wanted, shown, strict=True)):
                found.append(record)
            if len(found) > limit:
                return found[:limit], True
        return found, False

    def _ids(
        self,
        wanted: tuple[JobType | None, JobStatus | None, str | None],
        batch: int,
        after: str | None,
    ) -> Iterator[str]:
        """Ids, newest first, from the index or, while that is incomplete, all those in storage."""
        index = self.ledger.index
        if not index.is_complete:
            yield from (i for i in self.ledger.records.ids() if after is None or i < after)
            return
        job_type, status, model = wanted
        while ids := index.newest(job_type, status, after, batch, model):
            yield from ids
            after = ids[-1]

    def cancel(self, job_id: str) -> JobRecord:
        """See `Ledger.cancel`."""
        return self.ledger.cancel(job_id)

    def handle_dead_delivery(self, job_id: str, delivery_id: str) -> None:
        """Drop the lease of a dead delivery, and queue its job again within its retry budget."""
        self.leases.drop(delivery_id)
        record = self.ledger.records.read(job_id)
        # Still queued: the process died before it claimed the job.
        if record.held_by == delivery_id or record.status == "queued":
            self.release(record)

    def release(self, record: JobRecord) -> None:
        """Queue a job again whose process is dead, or end it: see `Ledger.release`."""
        released = self.ledger.release(record, self.settings.max_attempts)
        if released is None:
            return
        logger.warning("the process of job %s has died; it is %s", record.id, released.status)
        if released.status == "queued":
            self.deliver(released)

    def waiting(self, queue: QueueName) -> list[str]:
        """Ids of the jobs on the queue, in its order; `help` for the entry of a helper."""
        return [job_of(delivery_id) for delivery_id in self.queues[queue].get_job_ids()]

    def _helpers(self, job_id: str) -> set[str]:
        return {str(name) for name in self.leases.redis.smembers(_helpers_key(job_id))}


def rq_name(queue: QueueName) -> str:
    """RQ's name of a queue."""
    return f"vitrine-{queue}"


def open_rq_queue(name: str, connection: Redis) -> Queue:
    """RQ's queue of this name."""
    return Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=-1)


def job_of(delivery_id: str) -> str:
    """The id of the job that is delivered."""
    return delivery_id.split("-")[0]


def _helpers_key(job_id: str) -> str:
    return f"vitrine:helpers:{job_id}"


def _underway_key(job_id: str) -> str:
    return f"vitrine:underway:{job_id}"


def connect(url: str, *, timeout_s: float, decode: bool = True) -> Redis:
    """A client that gives up, by raising, about `timeout_s` after Redis went away."""
    return Redis.from_url(
        url,
        decode_responses=decode,
        socket_connect_timeout=1.0,
        socket_timeout=5.0,
        retry=Retry(ConstantBackoff(0.5), int(timeout_s / 0.5)),
    )


def open_queue(settings: Settings, storage: Storage, *, timeout_s: float) -> JobQueue:
    """A job queue by these settings."""
    assert settings.redis_url is not None
    redis = connect(settings.redis_url, timeout_s=timeout_s)
    # RQ needs its own connection: it decodes responses itself, and blocks while it waits for work.
    binary = connect(settings.redis_url, timeout_s=timeout_s, decode=False)
    ledger = Ledger(storage, Leases(redis, settings.lease_s), Events(redis))
    return JobQueue(ledger, binary, settings)
