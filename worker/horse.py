"""python -m worker.horse: run one job in a clean process. Started by `worker.supervisor` alone."""

import signal
import sys

from redis import Redis
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.processes import die_with_parent
from worker.queue import QUEUE_NAME
from worker.settings import Settings


def main(worker_key: str, delivery_id: str, execution_id: str) -> None:
    """Do what RQ does after its fork, for the worker and the delivery named."""
    # Before all else: a horse that outlived its worker would be a second one at its job.
    die_with_parent(signal.SIGKILL)
    settings = Settings()
    assert settings.redis_url is not None
    connection = Redis.from_url(settings.redis_url)
    worker = Worker.find_by_key(worker_key, connection=connection, serializer=JSONSerializer)
    if worker is None:
        sys.exit("the worker that started this process is gone")
    job = Job.fetch(delivery_id, connection=connection, serializer=JSONSerializer)
    worker.execution = Execution.fetch(execution_id, job.id, connection=connection)
    queue = Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)
    worker.main_work_horse(job, queue)


if __name__ == "__main__":
    main(*sys.argv[1:])
