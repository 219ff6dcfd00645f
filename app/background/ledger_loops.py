"""Loops that keep the job ledger in order: the reconciler, and its maintenance."""

import logging
import threading

import anyio
import anyio.to_thread
from redis import RedisError

from app.background.loops import RoundDone
from worker.ledger.maintenance import MAINTAIN_S, maintain
from worker.queue.queue import JobQueue
from worker.queue.reconciler import RECONCILE_S, reconcile_in_turn
from worker.storage import StorageError

logger = logging.getLogger(__name__)


async def reconcile(queue: JobQueue, round_done: RoundDone) -> None:
    """Run the reconciler, in turn with other processes, also while no worker is alive."""
    while True:
        try:
            await anyio.to_thread.run_sync(reconcile_in_turn, queue)
        except (RedisError, StorageError) as error:
            logger.warning("reconciling the jobs failed and is tried again: %s", error)
        round_done()
        await anyio.sleep(RECONCILE_S)


async def maintain_ledger(
    queue: JobQueue, stopping: threading.Event, round_done: RoundDone
) -> None:
    """Build the job index where it is missing, and delete old jobs, until the process stops."""
    work = (queue.ledger, queue.settings.keep_jobs_days, stopping.is_set)
    while True:
        try:
            await anyio.to_thread.run_sync(maintain, *work)
        except (RedisError, StorageError) as error:
            logger.warning("maintaining the job ledger failed and is tried again: %s", error)
        round_done()
        await anyio.sleep(MAINTAIN_S)
