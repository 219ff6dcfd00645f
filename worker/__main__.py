"""python -m worker: run jobs from the queue until SIGTERM or Ctrl-C.

On either signal, the running job saves a checkpoint, goes back to the queue, and the worker ends.
`--embedded PID` is for embedded mode: the worker also ends when the process PID, its parent, dies,
and runs at a lower priority, because the parent answers requests on the same cores.
"""

import logging
import os
import signal
import sys

from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import logs
from worker.processes import die_with_parent
from worker.queue.queue import open_queue
from worker.queue.supervisor import work
from worker.settings import Settings, explain, parse_arguments
from worker.storage import Storage, StorageError

logger = logging.getLogger("worker")  # this module's own name is no package's

PATIENCE_S = 5
NICENESS = 10  # a training uses every core; a request on the same ones must not wait for it


def main() -> int:
    """Run one worker and return the exit status."""
    options = parse_arguments(__doc__, None, embedded=int)
    if options.embedded is not None:
        die_with_parent(signal.SIGTERM, options.embedded)
        os.nice(NICENESS)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(explain(error))
    logs.configure(settings)
    if settings.redis_url is None or settings.storage_url is None:
        sys.exit("python -m worker needs VITRINE_REDIS_URL and VITRINE_STORAGE_URL")
    try:
        jobs = open_queue(settings, Storage.open(settings.storage_url), timeout_s=PATIENCE_S)
        jobs.queue.connection.ping()
        next(jobs.ledger.active(), None)  # fails here if the store does not answer
    except RedisConnectionError:
        sys.exit("Redis does not answer at VITRINE_REDIS_URL")
    except StorageError as error:
        sys.exit(f"VITRINE_STORAGE_URL: {error}")
    logger.info("worker %d started: Redis and the store answer, it waits for jobs", os.getpid())
    work(jobs)
    logger.info("worker %d stopped", os.getpid())
    return 0


if __name__ == "__main__":
    sys.exit(main())
