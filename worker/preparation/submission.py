"""Submission of the prepare job of a new data set whose default is `studio`."""

from worker.queue.queue import JobQueue
from worker.schemas.preparation import PrepareJob

REFUSED = "The preparation could not be queued: POST /jobs/prepare later, or train without it."


def queue_preparation(queue: JobQueue, dataset_id: str) -> str:
    """Queue the preparation of a data set; returns the job's id.

    The id follows from that of the data set: a second call queues nothing.

    Raises:
        QueueFull: too many jobs are waiting.
        RedisError: Redis is away.
    """
    job_id = preparation_id(dataset_id)
    queue.submit("prepare", PrepareJob(dataset=dataset_id), job_id)
    return job_id


def preparation_id(dataset_id: str) -> str:
    """The id of the job that an upload queues."""
    return f"job_{dataset_id.removeprefix('ds_')}"
