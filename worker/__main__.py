"""python -m worker: run the jobs of the queues in VITRINE_QUEUES until SIGTERM or Ctrl-C.

On either signal, the running jobs save a checkpoint, go back to their queues, and the worker ends.
With several queues, each is served by a process of its own, a slot. `--parent PID` is for slots: a
slot also ends when the process PID, its parent, dies, and runs at a lower priority.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import logs
from worker.processes import die_with_parent
from worker.queue.queue import JobQueue, open_queue
from worker.queue.slots import NICENESS, WorkerSlots
from worker.queue.supervisor import work
from worker.schemas.requests import QueueName
from worker.settings import Settings, explain, parse_arguments
from worker.storage import Storage, StorageError

logger = logging.getLogger("worker")  # this module's own name is no package's

PATIENCE_S = 5


def main() -> int:
    """Run one worker and return the exit status."""
    options = parse_arguments(__doc__, None, parent=int)
    if options.parent is not None:
        die_with_parent(signal.SIGTERM, options.parent)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(explain(error))
    logs.configure(settings)
    queues = settings.served_queues
    if options.parent is not None:
        os.nice(NICENESS[queues[0]])
    jobs = _open(settings)
    if len(queues) == 1:
        ready = "worker %d started: Redis and the store answer, it waits for jobs of %s"
        logger.info(ready, os.getpid(), queues[0])
        work(jobs, queues[0])
        logger.info("worker %d stopped", os.getpid())
    else:
        _work_in_slots(queues)
    return 0


def _open(settings: Settings) -> JobQueue:
    """The job queue; exits where Redis or the store does not answer."""
    if settings.redis_url is None or settings.storage_url is None:
        sys.exit("python -m worker needs VITRINE_REDIS_URL and VITRINE_STORAGE_URL")
    try:
        jobs = open_queue(settings, Storage.open(settings.storage_url), timeout_s=PATIENCE_S)
        jobs.connection.ping()
        next(jobs.ledger.active(), None)  # fails here if the store does not answer
    except RedisConnectionError:
        sys.exit("Redis does not answer at VITRINE_REDIS_URL")
    except StorageError as error:
        sys.exit(f"VITRINE_STORAGE_URL: {error}")
    return jobs


def _work_in_slots(queues: Sequence[QueueName]) -> None:
    slots = WorkerSlots(queues, {})
    try:
        signal.signal(signal.SIGTERM, _end)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        # A further signal must not end the wait for the jobs that save their checkpoints.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        slots.stop()


def _end(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
