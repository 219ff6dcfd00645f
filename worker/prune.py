"""python -m worker.prune: delete jobs that ended long ago, with their files.

    python -m worker.prune --days 90 --dry-run

It works on the Redis and the object store of VITRINE_REDIS_URL and VITRINE_STORAGE_URL. Models,
data sets and aliases are kept. With VITRINE_KEEP_JOBS_DAYS, the service does the same every hour.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta

from pydantic import ValidationError
from redis import RedisError

from worker.ledger.retention import expired, prune
from worker.queue.queue import open_queue
from worker.settings import Settings, explain
from worker.storage import Storage, StorageError

REDIS_TIMEOUT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Delete the expired jobs and print their number or, with --dry-run, print their ids."""
    options = _parsed(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit(explain(error))
    if settings.storage_url is None:
        sys.exit("set VITRINE_REDIS_URL and VITRINE_STORAGE_URL: this works on a running service's")
    age = timedelta(days=options.days)
    try:
        storage = Storage.open(settings.storage_url)
        ledger = open_queue(settings, storage, timeout_s=REDIS_TIMEOUT_S).ledger
        if options.dry_run:
            for job_id in expired(ledger, age):
                print(job_id)
        else:
            print(f"deleted {sum(1 for _ in prune(ledger, age))} jobs")
    except (RedisError, StorageError) as error:
        sys.exit(f"{type(error).__name__}: {error}; nothing is lost, run it again")


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, required=True, help="that a job must have ended ago")
    parser.add_argument("--dry-run", action="store_true", help="print the ids, delete nothing")
    options = parser.parse_args(arguments)
    if options.days < 1:
        parser.error("--days must be at least 1")
    return options


if __name__ == "__main__":
    main()
