"""The process that waits for jobs and supervises the one that runs them. It never imports torch.

One work-horse is forked for each job, from a process without threads of torch's or a CUDA context.
The horse pays torch's import, about 2 s, which is nothing beside a training.
"""

import logging
import signal

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.processes import die_with_parent
from worker.queue import QUEUE_NAME, JobQueue

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
        super().run_maintenance_tasks()
        self.jobs.reconcile()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Every few seconds while a horse works: kill it when it has gone silent."""
        try:
            super().maintain_heartbeats(job, execution)
            if not self.jobs.ledger.is_leased(_job_id(job)):
                logger.error("job %s shows no sign of life; killing its process", _job_id(job))
                self.kill_horse(signal.SIGKILL)
            self.jobs.reconcile()
        except (RedisConnectionError, RedisTimeoutError):
            logger.warning("Redis is away; the job goes on")

    def handle_work_horse_killed(
        self, job: Job, retpid: int, ret_val: int, rusage: object
    ) -> None:
        """The horse died without a word: its job goes on in another one."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)
        self.jobs.release_dead(_job_id(job))

    def handle_warm_shutdown_request(self) -> None:
        """SIGTERM: the horse saves a checkpoint and hands its job back."""
        super().handle_warm_shutdown_request()
        if self.horse_pid:
            self.kill_horse(signal.SIGTERM)

    def setup_work_horse_signals(self) -> None:
        """In the horse: it must not outlive its worker, or two would run one job."""
        super().setup_work_horse_signals()
        die_with_parent(signal.SIGKILL)


def _job_id(job: Job) -> str:
    return str(job.args[0])
