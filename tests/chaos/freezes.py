"""Processes that are frozen beyond their lease, and wake up to find another one at their job."""

import random
import subprocess
import time
from dataclasses import dataclass, field

from tests.chaos.history import broken_promises
from tests.chaos.world import World, succeeded

LATEST_S = 6.0  # after the claim; the job takes about as long
IDLE_S = 30.0
SETTLE_S = 1.0  # in which a process that wakes up finds out, or does harm


@dataclass
class Frozen:
    """What became of the jobs."""

    freezes: int = 0
    stale: list[str] = field(default_factory=list)  # what it wrote after the job's end
    broken: list[str] = field(default_factory=list)


def freeze_jobs(world: World, seed: int, count: int) -> Frozen:
    """Freeze worker and horse in the middle of a job; another worker ends it; then thaw them."""
    source = random.Random(seed)
    result = Frozen()
    sleeper, other = world.start_worker(), world.start_worker()
    accepted = []
    while result.freezes < count:
        job = world.jobs.submit("train", world.job())
        accepted.append(job.id)
        world.wait_for(job.id, lambda record: record.is_running)
        time.sleep(source.uniform(0, LATEST_S))
        if world.horse(sleeper) is None:
            sleeper, other = other, sleeper
        world.freeze(sleeper)
        ended = world.wait_for(job.id, succeeded)
        if ended.attempt == 1:
            world.thaw(sleeper)  # it was done already
            continue
        _wait_until_idle(world, other)  # it tidies up after the job's end
        before = world.server.written(world.name)
        world.thaw(sleeper)
        _wait_until_idle(world, sleeper)
        time.sleep(SETTLE_S)
        result.freezes += 1
        after = world.server.written(world.name)
        result.stale += [key for key in before | after if before.get(key) != after.get(key)]
    result.broken = broken_promises(world.jobs.ledger, accepted)
    return result


def _wait_until_idle(world: World, worker: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + IDLE_S
    while world.horse(worker) is not None:
        assert time.monotonic() < deadline, "the process at a job that has ended lives on"
        time.sleep(0.05)
