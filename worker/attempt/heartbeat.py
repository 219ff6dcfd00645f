"""Heartbeat: a thread renews the lease of a job between its reports, which a slow step delays.

The lease of a dead or frozen process runs out soon. A process that hangs in a step would renew its
lease for ever, so the heartbeat stops when a step takes too long.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from worker.attempt.progress_reporter import Reportable
from worker.ledger.leases import Leases, renewing

logger = logging.getLogger(__name__)


@contextmanager
def heartbeat(leases: Leases, name: str, attempt: Reportable, step_s: float) -> Iterator[None]:
    """Renew the lease `name` until the block ends, as long as `attempt` reports.

    Without a report for `step_s`, the lease runs out and the supervisor kills the process.
    """

    def renew() -> None:
        silent_s = time.monotonic() - attempt.reported_at
        if silent_s > step_s:
            logger.error("a step has taken %.0f s, more than VITRINE_STEP_S: it hangs", silent_s)
        else:
            leases.renew(name)

    with renewing(leases.lease_s, renew):
        yield
