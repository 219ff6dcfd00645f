"""Work-horse: the process that runs one job, started only by `worker.queue.supervisor`."""

import logging
import os
import signal
import sys

from redis import Redis, RedisError
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker import logs
from worker.processes import die_with_parent
from worker.queue.queue import open_rq_queue
from worker.settings import Settings

logger = logging.getLogger(__name__)

REDIS_AWAY = os.EX_TEMPFAIL  # exit status of a work-horse that ended because of Redis


class WorkHorse(Worker):
    """RQ's worker in the process of one job."""

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """RQ's own; where Redis refuses RQ's bookkeeping, exits with `REDIS_AWAY`."""
        try:
            return super().perform_job(job, queue, execution)
        except RedisError:
            logger.warning("Redis is away: RQ cannot record the end of %s", job.id)
            os._exit(REDIS_AWAY)  # as RQ ends this process: `sys.exit` would become its status 1


def main(worker_name: str, delivery_id: str, execution_id: str, parent: str) -> None:
    """Do what RQ does after its fork, for this worker and this delivery."""
    # First: a work-horse that outlived its supervisor could run a job that another one also runs.
    die_with_parent(signal.SIGKILL, int(parent))
    settings = Settings()
    logs.configure(settings)
    assert settings.redis_url is not None
    connection = Redis.from_url(settings.redis_url)
    try:
        job = Job.fetch(delivery_id, connection=connection, serializer=JSONSerializer)
        queue = open_rq_queue(job.origin, connection)
        # Created rather than looked up by name: a wiped Redis has no record of the worker.
        worker = WorkHorse([queue], worker_name, connection=connection, serializer=JSONSerializer)
        worker.execution = Execution.fetch(execution_id, job.id, connection=connection)
    except (NoSuchJobError, ValueError):  # RQ raises ValueError for a missing execution
        logger.warning("Redis has lost the delivery; the ledger will send the job again")
        sys.exit(REDIS_AWAY)
    except RedisError as error:
        logger.warning("Redis is away: %s", error)
        sys.exit(REDIS_AWAY)
    logs.job_id.set(str(job.args[0]))
    worker.main_work_horse(job, queue)


if __name__ == "__main__":
    main(*sys.argv[1:])
