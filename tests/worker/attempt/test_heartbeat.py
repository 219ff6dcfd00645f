"""A lease that outlasts a slow step, and does not outlast a hung one."""

import time

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.attempt.attempt import Attempt
from worker.attempt.heartbeat import heartbeat
from worker.ledger.leases import Leases
from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobProgress
from worker.schemas.requests import TrainJob

LEASE_S = 0.8
FOREVER_S = 60.0


def claimed(jobs: JobQueue) -> Attempt:
    """A job that this process holds, with a short lease."""
    job = jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m"))
    jobs.leases.lease_s = LEASE_S
    record = jobs.ledger.claim(job.id, "delivery-1")
    assert record is not None
    return Attempt(jobs.ledger, record)


def still_held(jobs: JobQueue, after_s: float) -> bool:
    time.sleep(after_s)
    return jobs.leases.is_held("delivery-1")


def test_a_slow_step_keeps_the_lease_and_whoever_has_ended_loses_it(jobs: JobQueue) -> None:
    attempt = claimed(jobs)
    with heartbeat(jobs.leases, attempt.holder, attempt, FOREVER_S):
        assert still_held(jobs, 3 * LEASE_S)
    assert not still_held(jobs, 1.5 * LEASE_S)


def test_a_hung_step_loses_it_and_each_report_begins_another_step(jobs: JobQueue) -> None:
    attempt = claimed(jobs)
    step_s = 2 * LEASE_S
    with heartbeat(jobs.leases, attempt.holder, attempt, step_s):
        for step in range(4):
            attempt.report("training", JobProgress(step=step), {})
            assert still_held(jobs, LEASE_S)
        assert not still_held(jobs, step_s + LEASE_S)
        attempt.report("training", JobProgress(step=4), {})  # the process was only slow
        assert still_held(jobs, 1.5 * LEASE_S)


def test_redis_away_does_not_end_it(jobs: JobQueue) -> None:
    attempt = claimed(jobs)
    with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere:
        leases = Leases(nowhere, LEASE_S)
        with heartbeat(leases, attempt.holder, attempt, FOREVER_S):
            time.sleep(LEASE_S)
            leases.redis = jobs.leases.redis
            assert still_held(jobs, 3 * LEASE_S)
