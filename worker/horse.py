"""python -m worker.horse: run one job in a clean process. Started by `worker.supervisor` alone."""

import signal
import sys

from redis import Redis
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker import logs
from worker.processes import die_with_parent
from worker.queue import QUEUE_NAME
from worker.settings import Settings


def main(worker_name: str, delivery_id: str, execution_id: str, parent: str) -> None:
    """Do what RQ does after its fork, for the worker and the delivery named."""
    # Before all else: a horse that outlived its worker would be a second one at its job.
    die_with_parent(signal.SIGKILL, int(parent))
    settings = Settings()
    logs.configure(settings)
    assert settings.redis_url is not None
    connection = Redis.from_url(settings.redis_url)
    queue = Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)
    # Not looked up by its name: a Redis that was wiped knows no workers.
    worker = Worker([queue], worker_name, connection=connection, serializer=JSONSerializer)
    try:
        job = Job.fetch(delivery_id, connection=connection, serializer=JSONSerializer)
        worker.execution = Execution.fetch(execution_id, job.id, connection=connection)
    except (NoSuchJobError, ValueError):  # RQ's words for a missing execution
        sys.exit("Redis has lost the delivery; the ledger will send the job again")
    logs.job_id.set(str(job.args[0]))
    worker.main_work_horse(job, queue)


if __name__ == "__main__":
    main(*sys.argv[1:])
