"""The process that waits for jobs and supervises the one that runs them. It never imports torch.

Each job gets a clean process (`worker.horse`) instead of RQ's fork: the supervisor reads the
ledger, and obstore's threads, like torch's, do not survive a fork. RQ's own SpawnWorker would show
the Redis password in its arguments. The horse pays its imports, about 2 s, nothing beside a
training.
"""

import logging
import os
import signal
import sys
from datetime import UTC

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.jobs import now
from worker.queue import HELP_TASK, QUEUE_NAME, JobQueue
from worker.storage import StorageError

logger = logging.getLogger(__name__)

RECONCILE_S = 5
WORKER_TTL_S = 15 + RECONCILE_S  # RQ waits for work in slices of its ttl less 15 s


class JobWorker(Worker):
    """RQ's worker with the ledger's rules for silent, hung and killed work-horses."""

    def __init__(self, jobs: JobQueue, connection: Redis) -> None:
        super().__init__(
            [QUEUE_NAME],
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_S,
            maintenance_interval=RECONCILE_S,
            job_monitoring_interval=RECONCILE_S,
        )
        self.jobs = jobs

    def run_maintenance_tasks(self) -> None:
        """Every few seconds while idle: RQ's own cleaning, and the reconciler."""
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call] # RQ has no annotation
        self._reconcile()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Every few seconds while a horse works: kill it when it has gone silent."""
        try:
            super().maintain_heartbeats(job, execution)
            if self._is_silent(job):
                logger.error("%s shows no sign of life; killing its process", _name(job))
                self.kill_horse(signal.SIGKILL)
            self._reconcile()
        except (RedisConnectionError, RedisTimeoutError):
            logger.warning("Redis is away; the job goes on")

    def _reconcile(self) -> None:
        """Look after all jobs; a store that is away now is asked again in a few seconds."""
        try:
            self.jobs.reconcile()
        except StorageError as error:
            # To end for this would be to take the horse along.
            logger.warning("cannot look after the jobs: %s", error)

    def _is_silent(self, job: Job) -> bool:
        """No lease, and time enough to have taken one: torch's import comes before the claim."""
        assert job.started_at is not None
        age_s = (now() - job.started_at.replace(tzinfo=UTC)).total_seconds()
        return age_s > self.jobs.settings.lease_s and not self.jobs.ledger.is_leased(_name(job))

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: object) -> None:
        """The horse died without a word: its job goes on in another one."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call] # the same
        if job.func_name == HELP_TASK:
            self.jobs.ledger.drop_lease(_name(job))  # the job is its owner's
        else:
            self.jobs.release_dead(_name(job))

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM: the horse saves a checkpoint and hands its job back."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call] # the same
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:  # noqa: ARG002 - RQ's signature
        """Start the horse, in a process group of its own so that it can be killed as a whole."""
        assert self.execution is not None
        command = [sys.executable, "-m", "worker.horse", self.key, job.id, self.execution.id]
        self._horse_pid = os.posix_spawn(sys.executable, command, os.environ, setpgroup=0)


def _name(job: Job) -> str:
    """What the process is leased by: the job that it owns, or its own name as a helper."""
    return str(job.args[-1])
