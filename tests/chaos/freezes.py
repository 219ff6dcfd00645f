"""SIGSTOP beyond the lease: a process that resumes after another has taken its job over."""

import random
import time
from dataclasses import dataclass, field

from tests.chaos.history import Verdict, judge
from tests.chaos.world import Worker, World, succeeded
from worker.ledger.artifacts import SCRATCH, JobFiles

LATEST_S = 6.0  # of a freeze after the attempt's start; the job takes about as long
IDLE_S = 30.0
SETTLE_S = 1.0  # in which a resumed process notices the lost lease, or writes


@dataclass
class Frozen:
    """Results of the freezes."""

    freezes: int = 0
    stale: list[str] = field(default_factory=list)  # what a process wrote after the job's end
    hung: int = 0  # of these, with only the work-horse frozen, which its worker killed
    verdict: Verdict = field(default_factory=Verdict)


def freeze_jobs(world: World, seed: int, count: int) -> Frozen:
    """Freeze processes in the middle of a job; resume them after another has finished it."""
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
            continue  # the job had already ended
        world.freeze(sleeper, horse_alone=is_hung)
        ended = world.wait_for(job.id, succeeded)
        if ended.attempt > 1:
            result.freezes += 1
            result.hung += is_hung
            result.stale += _written_when_thawed(world, job.id, sleeper, workers)
        world.thaw(sleeper)
        _wait_until_idle(world, workers)
    result.verdict = judge(world.jobs.ledger, accepted)
    return result


def _written_when_thawed(
    world: World, job_id: str, sleeper: Worker, workers: list[Worker]
) -> list[str]:
    """Keys of the visible objects that the resumed process has changed."""
    _wait_until_idle(world, [worker for worker in workers if worker is not sleeper])
    before = _visible(world, job_id)
    world.thaw(sleeper)
    _wait_until_idle(world, workers)
    time.sleep(SETTLE_S)
    after = _visible(world, job_id)
    return [key for key in before | after if before.get(key) != after.get(key)]


def _visible(world: World, job_id: str) -> dict[str, tuple[str, str]]:
    """Stored objects but scratch files and replaced artifacts: write time and ETag by key."""
    files = set(JobFiles(world.storage, job_id).keys().values())
    written = world.server.written(world.name)
    by_key = {key.removeprefix(f"{world.name}/"): stamp for key, stamp in written.items()}
    hidden = (SCRATCH, f"jobs/artifacts/{job_id}")
    return {k: stamp for k, stamp in by_key.items() if k in files or not k.startswith(hidden)}


def _wait_until_idle(world: World, workers: list[Worker]) -> None:
    deadline = time.monotonic() + IDLE_S
    while any(world.horse(worker) is not None for worker in workers):
        assert time.monotonic() < deadline, "the process at a job that has ended lives on"
        time.sleep(0.05)
