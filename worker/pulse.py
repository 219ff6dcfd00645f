"""Signs of life between two reports of a job, because a slow step is no death.

A process that is dead or frozen shows none, and its lease runs out soon. One that hangs in a step
would show them for ever, so they end where a step takes too long.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.leases import Leases, renewing
from worker.watch import Hold

logger = logging.getLogger(__name__)


@contextmanager
def kept_alive(leases: Leases, name: str, hold: Hold, step_s: float) -> Iterator[None]:
    """Renew the lease of this name until the block ends, but not where `hold` is silent too long.

    Where it has not reported for `step_s`, the lease runs out and the process is killed.
    """

    def renew() -> None:
        silent_s = time.monotonic() - hold.reported_at
        if silent_s > step_s:
            logger.error("a step has taken %.0f s, more than VITRINE_STEP_S: it hangs", silent_s)
        else:
            leases.renew(name)

    with renewing(leases.lease_s, renew):
        yield
