"""The loop that sweeps what killed uploads have left in the object store."""

import logging

import anyio
import anyio.to_thread
from redis import RedisError

from app.background.loops import RoundDone
from worker.datasets.leftovers import sweep_leftovers
from worker.queue.queue import JobQueue
from worker.storage import StorageError

logger = logging.getLogger(__name__)

LOOK_S = 60.0
SWEEP_EVERY_S = 3600.0


async def sweep(queue: JobQueue, round_done: RoundDone) -> None:
    """Sweep at the start and once an hour, in turn with other processes."""
    while True:
        try:
            await anyio.to_thread.run_sync(_sweep_in_turn, queue)
        except (RedisError, StorageError) as error:
            logger.warning(
                "sweeping leftovers failed and is tried again within the hour: %s", error
            )
        round_done()
        await anyio.sleep(LOOK_S)


def _sweep_in_turn(queue: JobQueue) -> None:
    if queue.leases.take_turn("leftovers", SWEEP_EVERY_S):
        sweep_leftovers(queue.ledger.storage)
