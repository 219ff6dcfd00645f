"""Supervisor: takes jobs from the queue and runs each in a work-horse, a process of its own.

The work-horse is a new process (`worker.queue.work_horse`) instead of RQ's fork: obstore's threads,
which the supervisor needs to read the ledger, do not survive a fork, and neither do torch's. RQ's
own SpawnWorker would show the Redis password in its arguments. The work-horse's imports take about
2 s, little beside a training. The supervisor itself never imports torch.

A Redis that answers with an error (it is full, loading, or a replica) is away, as one that does not
answer: jobs go on, and no work-horse that ends because of it counts as dead.
"""

import logging
import os
import signal
import sys
import threading
from datetime import UTC

from redis import RedisError
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue, Worker, worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker import logs
from worker.queue.queue import HELP_TASK, JobQueue, rq_name
from worker.queue.queue_stats import alive_key
from worker.queue.reconciler import RECONCILE_S, reconcile_in_turn
from worker.queue.work_horse import REDIS_AWAY
from worker.schemas.jobs import now
from worker.schemas.requests import QueueName
from worker.storage import StorageError

logger = logging.getLogger(__name__)

WORKER_TTL_S = 15 + int(RECONCILE_S)  # RQ blocks on the queue for its ttl minus 15 s at a time
ALIVE_S = 20  # after the last heartbeat, which comes every few seconds, a worker is dead
RETRY_S = 1.0
START_S = 120.0  # limit of a work-horse's start on a slow or busy machine


def work(jobs: JobQueue, queue: QueueName) -> None:
    """Run a queue's jobs until SIGTERM or SIGINT.

    RQ's loop ends when Redis is away; this restarts it.
    """
    stop = threading.Event()
    while not stop.is_set():
        try:
            JobWorker(jobs, queue, stop).work(logging_level="WARNING")
        except RedisError:
            jobs.leases.note_outage()
            logger.warning("Redis is away; asking again")
        except StopRequested:  # the signal came between two of RQ's loops
            return
        stop.wait(RETRY_S)


class JobWorker(Worker):
    """RQ's worker, with the ledger's rules for silent, hung and killed work-horses.

    It serves one queue: with several, RQ loses a job if it dies between taking and starting it.
    """

    max_connection_wait_time = 2 * RETRY_S  # bound of RQ's own growing pauses

    def __init__(self, jobs: JobQueue, queue: QueueName, stop: threading.Event) -> None:
        super().__init__(
            [rq_name(queue)],
            connection=jobs.connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_S,
            maintenance_interval=int(RECONCILE_S),
            job_monitoring_interval=int(RECONCILE_S),
        )
        self.jobs = jobs
        self.stop = stop

    def run_maintenance_tasks(self) -> None:
        """Every few seconds while idle: RQ's own maintenance, and the reconciler."""
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call] # RQ has no annotation
        self._reconcile()

    def execute_job(self, job: Job, queue: Queue) -> None:
        """RQ's own, with the job's id in all log lines meanwhile."""
        token = logs.job_id.set(str(job.args[0]))
        try:
            super().execute_job(job, queue)
        finally:
            logs.job_id.reset(token)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Every few seconds while a work-horse runs: kill it when its lease has run out."""
        try:
            super().maintain_heartbeats(job, execution)
            if self._is_silent(job):
                logger.error("%s shows no sign of life; killing its process", job.id)
                self.kill_horse(signal.SIGKILL)
        except RedisError:
            self.jobs.leases.note_outage()
            logger.warning("Redis is away; the job goes on")
        except StorageError as error:
            logger.warning("cannot tell whether %s lives: %s", job.id, error)
        else:
            self._reconcile()

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's own, and a sign of life; while a work-horse runs, errors of Redis are ignored."""
        redis = self.connection if pipeline is None else pipeline
        try:
            super().heartbeat(timeout, pipeline)
            worker_registration.register(self, pipeline)  # again, as Redis may have been wiped
            redis.set(alive_key(self.key), 1, ex=ALIVE_S)
        except RedisError as error:
            self.jobs.leases.note_outage()
            if not self._horse_pid:  # RQ's loop waits and goes on after this error, and no other
                raise RedisConnectionError(str(error)) from error

    def _reconcile(self) -> None:
        """Run the reconciler; after any failure it is tried again in a few seconds."""
        try:
            reconcile_in_turn(self.jobs)
        except RedisError:
            logger.warning("Redis is away; jobs are reconciled later")
        except StorageError as error:
            logger.warning("reconciling the jobs failed and is tried again: %s", error)
        except StopRequested:  # RQ's handler of SIGTERM raises it wherever an idle worker is
            raise
        except Exception:  # raising would end the supervisor, and the work-horse with it
            logger.exception("reconciling the jobs failed by a fault, and is tried again")

    def _is_silent(self, job: Job) -> bool:
        """Whether it has no lease, though it has claimed the job or has run for `START_S`."""
        assert job.started_at is not None
        age_s = (now() - job.started_at.replace(tzinfo=UTC)).total_seconds()
        leases = self.jobs.leases
        if age_s <= leases.lease_s or not leases.can_be_judged() or leases.is_held(job.id):
            return False
        record = self.jobs.ledger.records.read(str(job.args[0]))
        return record.held_by == job.id or age_s > START_S

    def handle_work_horse_killed(
        self, job: Job, retpid: int | None, ret_val: int | None, rusage: object
    ) -> None:
        """The work-horse died before it committed: queue its job again, within its budget."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call] # the same
        if ret_val is not None and os.waitstatus_to_exitcode(ret_val) == REDIS_AWAY:
            logger.warning("Redis was away from %s; its job is delivered again", job.id)
            return
        if job.func_name == HELP_TASK:
            self.jobs.leases.drop(job.id)  # a helper does not own the job
            return
        try:
            self.jobs.handle_dead_delivery(str(job.args[0]), job.id)
        except (StorageError, RedisError) as error:
            logger.warning("the lease of %s will run out: %s", job.id, error)

    def handle_warm_shutdown_request(self) -> None:
        """On SIGTERM, pass it on: the work-horse saves a checkpoint and hands its job back."""
        self.stop.set()
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call] # the same
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def set_shutdown_requested_date(self) -> None:
        """RQ's own record of the SIGTERM; if Redis is away, the shutdown goes on without it."""
        try:
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call] # the same
        except RedisError:
            logger.warning("Redis is away; stopping all the same")

    def fork_work_horse(self, job: Job, queue: Queue) -> None:  # noqa: ARG002 - RQ's signature
        """Start the work-horse in its own process group, so that the whole group can be killed."""
        assert self.execution is not None
        self.jobs.mark_underway(str(job.args[0]))
        command = [
            *(sys.executable, "-m", "worker.queue.work_horse"),
            *(self.name, job.id, self.execution.id, str(os.getpid())),
        ]
        self._horse_pid = os.posix_spawn(sys.executable, command, os.environ, setpgroup=0)
