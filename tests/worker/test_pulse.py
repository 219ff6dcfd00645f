"""A lease that outlasts a slow step, and does not outlast a hung one."""

import time

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.claims import Claim
from worker.jobs import JobProgress
from worker.leases import Leases
from worker.pulse import kept_alive
from worker.queue import JobQueue
from worker.requests import TrainJob

LEASE_S = 0.8
FOREVER_S = 60.0


def claimed(jobs: JobQueue) -> Claim:
    """A job that this process holds, with a short lease."""
    job = jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m"))
    jobs.leases.lease_s = LEASE_S
    record = jobs.ledger.claim(job.id, "delivery-1")
    assert record is not None
    return Claim(jobs.ledger, record)


def still_held(jobs: JobQueue, after_s: float) -> bool:
    time.sleep(after_s)
    return jobs.leases.is_held("delivery-1")


def test_a_slow_step_keeps_the_lease_and_whoever_has_ended_loses_it(jobs: JobQueue) -> None:
    claim = claimed(jobs)
    with kept_alive(jobs.leases, claim.holder, claim, FOREVER_S):
        assert still_held(jobs, 3 * LEASE_S)
    assert not still_held(jobs, 1.5 * LEASE_S)


def test_a_hung_step_loses_it_and_each_report_begins_another_step(jobs: JobQueue) -> None:
    claim = claimed(jobs)
    step_s = 2 * LEASE_S
    with kept_alive(jobs.leases, claim.holder, claim, step_s):
        for step in range(4):
            claim.report("training", JobProgress(step=step), {})
            assert still_held(jobs, LEASE_S)
        assert not still_held(jobs, step_s + LEASE_S)
        claim.report("training", JobProgress(step=4), {})  # it was only slow, and is not dead yet
        assert still_held(jobs, 1.5 * LEASE_S)


def test_redis_away_does_not_end_it(jobs: JobQueue) -> None:
    claim = claimed(jobs)
    with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere:
        leases = Leases(nowhere, LEASE_S)
        with kept_alive(leases, claim.holder, claim, FOREVER_S):
            time.sleep(LEASE_S)
            leases.redis = jobs.leases.redis
            assert still_held(jobs, 3 * LEASE_S)
