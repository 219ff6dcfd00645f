"""Redis outages: killed, wiped or stopped, while clients keep sending HTTP requests."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from tests.chaos.history import Verdict, judge
from tests.chaos.world import World, succeeded, training
from tests.service import Service

ANSWER_S = 2.0  # within which the API answers 503 during an outage
BACK_S = 10.0  # within which it works again after one
SUBMIT_EVERY_S = 0.5
DRAIN_S = 1200.0


@dataclass
class Survived:
    """Results for the jobs that clients have submitted."""

    redis_kills: int = 0
    wipes: int = 0
    refused: int = 0  # 503 answers
    verdict: Verdict = field(default_factory=Verdict)


def kill_redis(world: World, seed: int, kills: int) -> Survived:
    """Kill Redis again and again under steady submits, wipe it once; then wait for all jobs."""
    source, result = random.Random(seed), Survived()
    service = open_service(world)
    world.start_worker()
    world.start_worker()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(_submit_steadily, service, world, stop, result)
        for _ in range(kills):
            time.sleep(source.uniform(0.5, 2.5))
            world.restart_valkey(down_s=source.uniform(0, 2))
            result.redis_kills += 1
        world.jobs.leases.redis.flushall()
        result.wipes += 1
        time.sleep(2)
        stop.set()
        accepted = submitting.result()
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline and any(not _ended(world, job) for job in accepted):
        time.sleep(1)
    result.verdict = judge(world.jobs.ledger, accepted)
    service.close()
    return result


def open_service(world: World) -> Service:
    # Errors alone: the 503 answers of an outage would fill the log.
    service = Service(world.environment | {"VITRINE_LOG_LEVEL": "error"})
    service.wait_until_ready()
    return service


def _submit_steadily(
    service: Service, world: World, stop: threading.Event, result: Survived
) -> list[str]:
    """Submit jobs, each with an idempotency key and retried until it is accepted."""
    accepted: list[str] = []
    body = world.job(max_images=16).model_dump(mode="json")
    while not stop.wait(SUBMIT_EVERY_S):
        key = {"Idempotency-Key": f"job-{len(accepted)}"}
        while True:
            answer = service.client.post("/jobs/train", json=body, headers=key)
            if answer.status_code == 202:
                break
            assert answer.status_code == 503, answer.text
            result.refused += 1
            time.sleep(0.2)
        accepted.append(answer.json()["id"])
        if len(accepted) % 3 != 0:  # running all of them would take an hour
            service.client.post(f"/jobs/{accepted[-1]}/cancel")
    return accepted


def _ended(world: World, job_id: str) -> bool:
    return world.jobs.ledger.records.read(job_id).terminal


@dataclass
class Away:
    """Observations during an outage of Redis and after it."""

    away_s: float
    steps: int = 0  # trained during the outage
    answers: int = 0  # 503 answers of the API
    slowest_answer_s: float = 0.0
    back_s: float = 0.0
    attempts: int = 0
    verdict: Verdict = field(default_factory=Verdict)


def redis_away(world: World, seconds: float) -> Away:
    """Stop Redis for `seconds` in the middle of a training."""
    result = Away(away_s=seconds)
    service = open_service(world)
    world.start_worker()
    job = world.jobs.submit(
        "train", world.job(max_images=50_000_000, max_seconds=int(seconds) + 20)
    )
    world.wait_for(job.id, training)
    url = f"/jobs/{job.id}"
    first = world.newest_step(job.id)
    gone = threading.Thread(target=world.restart_valkey, args=(seconds,))
    gone.start()
    time.sleep(0.3)
    while gone.is_alive() and _is_away(service, url, result):
        time.sleep(0.5)
    result.steps = world.newest_step(job.id) - first
    gone.join()
    returned = time.monotonic()
    while service.client.get(url).status_code != 200:
        time.sleep(0.1)
    result.back_s = time.monotonic() - returned
    result.attempts = world.wait_for(job.id, succeeded).attempt
    result.verdict = judge(world.jobs.ledger, [job.id])
    service.close()
    return result


def _is_away(service: Service, url: str, result: Away) -> bool:
    """Poll once; returns whether the answer was 503."""
    began = time.monotonic()
    status = service.client.get(url).status_code
    if status != 503:
        return False
    result.answers += 1
    result.slowest_answer_s = max(result.slowest_answer_s, time.monotonic() - began)
    return True


def one_key(world: World, requests: int) -> set[str]:
    """Ids that concurrent requests with one Idempotency-Key create or are answered with."""
    service = open_service(world)
    body = world.job().model_dump(mode="json")
    headers = {"Idempotency-Key": "once"}
    limits = httpx.Limits(max_connections=None)

    with httpx.Client(base_url=service.url, timeout=120, limits=limits) as client:

        def send(_: int) -> str:
            answer = client.post("/jobs/train", json=body, headers=headers)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(requests) as pool:
            answered = set(pool.map(send, range(requests)))
    made = set(world.jobs.ledger.records.ids())
    service.close()
    return answered | made
