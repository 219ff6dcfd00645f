"""python -m worker: take jobs from the queue until told to stop.

SIGTERM or Ctrl-C: the running job saves a checkpoint, goes back to the queue, and the worker ends.
With `--embedded` and the number of the process that started it, it also ends when that one dies,
and leaves it, as it answers requests on the same cores, the first turn.
"""

import os
import signal
import sys

from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import logs
from worker.processes import die_with_parent
from worker.queue import open_queue
from worker.settings import Settings, explain
from worker.storage import Storage, StorageError
from worker.supervisor import work

PATIENCE_S = 5
NICENESS = 10  # a training uses every core; a request on the same ones must not wait for it


def main() -> int:
    """Run one worker; the exit status."""
    if sys.argv[1:2] == ["--embedded"]:
        die_with_parent(signal.SIGTERM, int(sys.argv[2]))
        os.nice(NICENESS)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(explain(error))
    logs.configure(settings)
    if settings.redis_url is None or settings.storage_url is None:
        sys.exit("python -m worker needs VITRINE_REDIS_URL and VITRINE_STORAGE_URL")
    try:
        jobs = open_queue(settings, Storage.open(settings.storage_url), patience_s=PATIENCE_S)
        jobs.queue.connection.ping()
        next(jobs.ledger.active(), None)  # whether the store answers
    except RedisConnectionError:
        sys.exit("Redis does not answer at VITRINE_REDIS_URL")
    except StorageError as error:
        sys.exit(f"VITRINE_STORAGE_URL: {error}")
    work(jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
