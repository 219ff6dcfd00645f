"""Signs of life between two reports of a job, because a slow step is no death.

A process that is dead or frozen shows none, and its lease runs out soon. One that hangs in a step
would show them for ever, so they end where a step takes too long.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import RedisError

from worker.leases import Leases
from worker.watch import Hold

logger = logging.getLogger(__name__)


@contextmanager
def kept_alive(leases: Leases, name: str, hold: Hold, step_s: float) -> Iterator[None]:
    """Renew the lease of this name until the block ends, or `hold` has not reported for `step_s`.

    From then on the lease runs out, and the process is killed as a silent one.
    """
    over = threading.Event()
    pulse = threading.Thread(target=_beat, args=(leases, name, hold, step_s, over), daemon=True)
    pulse.start()
    try:
        yield
    finally:
        over.set()
        pulse.join()


def _beat(leases: Leases, name: str, hold: Hold, step_s: float, over: threading.Event) -> None:
    while not over.wait(leases.lease_s / 4):
        silent_s = time.monotonic() - hold.reported_at
        if silent_s > step_s:
            logger.error("a step has taken more than %.0f s: it is taken for hung", step_s)
            return
        try:
            leases.renew(name)
        except RedisError:
            logger.debug("Redis is away: the lease of %s was not renewed", name)
