"""SIGKILL at seeded moments: of worker, work-horse or both, and inside checkpoint writes."""

import os
import random
import signal
import time
from dataclasses import dataclass, field

from tests.chaos.history import Verdict, history_of, judge
from tests.chaos.proxy import Fault
from tests.chaos.world import World, succeeded
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord

WHOM = ("checkpoint", "horse", "worker", "both")
MOST_TRIES = 20  # a job may end before it is hit


@dataclass
class Killed:
    """Results of the kills."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHOM, 0))
    jobs: int = 0
    different: int = 0  # ended with other weights than the undisturbed job
    redone: int = 0  # resumed from before the newest checkpoint
    slowest_requeue_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)

    def add(self, other: "Killed") -> None:
        """Add the results of another part of the same run."""
        for whom in WHOM:
            self.kills[whom] += other.kills[whom]
        self.jobs += other.jobs
        self.different += other.different
        self.redone += other.redone
        self.slowest_requeue_s = max(self.slowest_requeue_s, other.slowest_requeue_s)
        self.verdict += other.verdict


def kill_jobs(world: World, seed: int, wanted: dict[str, int]) -> Killed:
    """Run one undisturbed job, then jobs that are killed once: `wanted` counts them by kind."""
    source = random.Random(seed)
    result = Killed()
    world.start_worker()
    began = time.monotonic()
    undisturbed = world.wait_for(world.jobs.submit("train", world.job()).id, succeeded)
    usual_s = time.monotonic() - began
    weights = _weights(world, undisturbed)
    ways = [whom for whom, count in wanted.items() for _ in range(count)]
    source.shuffle(ways)
    accepted = [undisturbed.id]
    for whom in ways:
        for _ in range(MOST_TRIES):
            job_id = world.jobs.submit("train", world.job()).id
            accepted.append(job_id)
            hit = _hit(world, job_id, whom, source, usual_s)
            ended = world.wait_for(job_id, succeeded)
            if hit is not None and ended.crashes == 1:
                break
        else:
            raise AssertionError(f"no {whom} was hit in {MOST_TRIES} jobs")
        assert hit is not None
        result.kills[whom] += 1
        result.jobs += 1
        result.different += _weights(world, ended) != weights
        _judge(world, job_id, hit, result)
    result.verdict = judge(world.jobs.ledger, accepted)
    return result


@dataclass
class _Hit:
    moment: float  # seconds since the epoch
    checkpoint_step: int  # the newest one at that moment; 0 without


def _hit(
    world: World, job_id: str, whom: str, source: random.Random, usual_s: float
) -> _Hit | None:
    """Kill, and restart a killed worker; None if the job ended before it was hit."""
    worker = world.workers[-1]
    if whom == "checkpoint":
        moments: list[float] = []

        def die() -> None:
            horse = world.horse(worker)
            if horse is not None:
                os.kill(horse, signal.SIGKILL)
                moments.append(time.time())

        fault = Fault("PUT", "/checkpoints/", source.randint(1, 3), die)
        world.proxy.arm(fault)
        world.wait_for(job_id, lambda record: bool(moments) or record.terminal)
        world.proxy.faults.remove(fault)
        return _Hit(moments[0], world.newest_step(job_id)) if moments else None
    world.wait_for(job_id, lambda record: record.is_running or record.terminal)
    time.sleep(source.uniform(0, 0.7 * usual_s))
    moment = time.time()
    world.kill(worker, whom)
    if whom != "horse":
        worker.wait()
        world.start_worker()
    return _Hit(moment, world.newest_step(job_id))


def _judge(world: World, job_id: str, hit: _Hit, result: Killed) -> None:
    history = history_of(world.jobs.ledger.records, job_id)
    requeued = next(each for each in history if each.attempt == 2)
    waited_s = requeued.moved_at.timestamp() - hit.moment
    result.slowest_requeue_s = max(result.slowest_requeue_s, waited_s)
    begun = _first_step_after_requeue(world, job_id)
    result.redone += begun is not None and begun < hit.checkpoint_step


def _first_step_after_requeue(world: World, job_id: str) -> int | None:
    """Step of the second attempt's first training report; None if there is none."""
    second = False
    for event in world.jobs.ledger.events.read(job_id):
        data = event.data
        second = second or data.get("attempt") == 2
        if second and event.kind == "progress" and data["stage"] == "training":
            return int(str(data["step"]))
    return None


def _weights(world: World, record: JobRecord) -> str:
    assert record.result is not None
    card = Registry(world.storage).card("tiny", int(str(record.result["version"])))
    return card.weights_sha256
