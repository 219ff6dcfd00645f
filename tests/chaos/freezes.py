"""Processes that are frozen beyond their lease, and wake up to find another one at their job."""

import random
import time
from dataclasses import dataclass, field

from tests.chaos.history import Verdict, judge
from tests.chaos.world import Worker, World, succeeded

LATEST_S = 6.0  # after the claim; the job takes about as long
IDLE_S = 30.0
SETTLE_S = 1.0  # in which a process that wakes up finds out, or does harm


@dataclass
class Frozen:
    """What became of the jobs."""

    freezes: int = 0
    stale: list[str] = field(default_factory=list)  # what it wrote after the job's end
    hung: int = 0  # of these, where the horse alone stood still, and its worker killed it
    verdict: Verdict = field(default_factory=Verdict)


def freeze_jobs(world: World, seed: int, count: int) -> Frozen:
    """Stop processes in the middle of a job; when another has ended it, let them go on."""
    source, result, accepted = random.Random(seed), Frozen(), list[str]()
    workers = [world.start_worker(), world.start_worker()]
    while result.freezes < count:
        job = world.jobs.submit("train", world.job())
        accepted.append(job.id)
        world.wait_for(job.id, lambda record: record.is_running)
        time.sleep(source.uniform(0, LATEST_S))
        sleeper = next((worker for worker in workers if world.horse(worker) is not None), None)
        is_hung = result.freezes % 3 == 2
        if sleeper is None:
            continue  # it was done already
        world.freeze(sleeper, horse_alone=is_hung)
        ended = world.wait_for(job.id, succeeded)
        if ended.attempt > 1:
            result.freezes += 1
            result.hung += is_hung
            result.stale += _written_when_thawed(world, sleeper, workers)
        world.thaw(sleeper)
        _wait_until_idle(world, workers)
    result.verdict = judge(world.jobs.ledger, accepted)
    return result


def _written_when_thawed(world: World, sleeper: Worker, workers: list[Worker]) -> list[str]:
    _wait_until_idle(world, [worker for worker in workers if worker is not sleeper])
    before = world.server.written(world.name)
    world.thaw(sleeper)
    _wait_until_idle(world, workers)
    time.sleep(SETTLE_S)
    after = world.server.written(world.name)
    return [key for key in before | after if before.get(key) != after.get(key)]


def _wait_until_idle(world: World, workers: list[Worker]) -> None:
    deadline = time.monotonic() + IDLE_S
    while any(world.horse(worker) is not None for worker in workers):
        assert time.monotonic() < deadline, "the process at a job that has ended lives on"
        time.sleep(0.05)
