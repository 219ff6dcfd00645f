"""Redis that answers with errors: it is full, cannot save, takes no writes, or loads its file."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.history import Verdict, judge
from tests.chaos.outages import open_service
from tests.chaos.world import PATIENCE_S, World, training
from tests.service import Service

PROBE_S, SUBMIT_EVERY_S = 0.02, 0.5
RUN_TO_THE_END = 1  # of the accepted jobs; the others are cancelled
BALLAST, PIECES, BALLAST_DB = 20_000, 50, 15  # keys that take a while to load
FILL = "for i = 1, tonumber(ARGV[1]) do redis.call('set', ARGV[2] .. i, i) end"


@dataclass
class Refused:
    """Observations of a training, and of clients, while Redis answers with errors."""

    steps: int = 0  # trained from the first error to the last
    errors: dict[str, int] = field(default_factory=dict)  # answers of Redis, by their first word
    answers: Counter[int] = field(default_factory=Counter)  # of the API meanwhile, by status
    slowest_answer_s: float = 0.0
    attempts: int = 0
    deaths: int = 0
    verdict: Verdict = field(default_factory=Verdict)


def refuse(world: World, seconds: float) -> Refused:
    """Make Redis answer with each kind of error for `seconds`, in the middle of one training."""
    result = Refused()
    world.start_worker()
    with closing(open_service(world)) as service:
        job = world.jobs.submit("train", world.job(max_images=50_000_000))
        accepted = [job.id]
        world.wait_for(job.id, training)
        first = world.newest_step(job.id)
        for word, refusing in KINDS.items():
            with refusing(world), _counting(world, word, result.errors):
                accepted += _submit(world, service, seconds, result)
            _wait_until_accepted(world)
            time.sleep(seconds)
        trained = world.jobs.fetch(job.id)
        result.steps = world.newest_step(job.id) - first
        result.attempts, result.deaths = trained.attempt, trained.crashes
        for job_id in (job.id, *accepted[1:-RUN_TO_THE_END]):
            service.client.post(f"/jobs/{job_id}/cancel").raise_for_status()
        for job_id in accepted:
            world.wait_for(job_id, lambda record: record.terminal)
    result.verdict = judge(world.jobs.ledger, accepted)
    return result


@contextmanager
def _counting(world: World, word: str, errors: dict[str, int]) -> Iterator[None]:
    """Count how often Redis answers with the error until the block ends; it must at least once."""
    over = threading.Event()

    def probe() -> None:
        with Redis.from_url(world.valkey.url, retry=Retry(NoBackoff(), 0)) as redis:
            while not over.wait(PROBE_S):
                try:
                    redis.set("probe", 1)
                except RedisError as error:
                    errors[word] += word.lower() in str(error).lower()

    errors[word] = 0
    with ThreadPoolExecutor(1) as pool:
        probing = pool.submit(probe)
        try:
            yield
        finally:
            over.set()
        probing.result()
    assert errors[word], f"Redis never answered {word}"


def _submit(world: World, service: Service, seconds: float, result: Refused) -> list[str]:
    """Submit jobs for so long; returns the ids of those that were accepted."""
    accepted, until = [], time.monotonic() + seconds
    body = world.job(max_images=16).model_dump(mode="json")
    while (began := time.monotonic()) < until:
        answer = service.client.post("/jobs/train", json=body)
        result.slowest_answer_s = max(result.slowest_answer_s, time.monotonic() - began)
        result.answers[answer.status_code] += 1
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
        time.sleep(SUBMIT_EVERY_S)
    return accepted


def _wait_until_accepted(world: World) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(RedisError):
            world.jobs.leases.check()
            return
        time.sleep(SUBMIT_EVERY_S)
    raise AssertionError("Redis takes no writes any more")


@contextmanager
def _full(world: World) -> Iterator[None]:
    redis = world.jobs.leases.redis
    redis.config_set("maxmemory", 1)
    yield
    redis.config_set("maxmemory", 0)


@contextmanager
def _replica(world: World) -> Iterator[None]:
    redis = world.jobs.leases.redis
    redis.replicaof("localhost", 1)
    yield
    redis.replicaof("NO", "ONE")


@contextmanager
def _unable_to_save(world: World) -> Iterator[None]:
    redis, in_the_way = world.jobs.leases.redis, world.valkey.folder / "dump.rdb"
    in_the_way.mkdir()
    redis.config_set("save", "3600 1000000")  # only who is to save refuses writes if it cannot
    redis.bgsave()
    while redis.info("persistence")["rdb_last_bgsave_status"] == "ok":
        time.sleep(PROBE_S)
    yield
    redis.config_set("save", "")
    in_the_way.rmdir()


@contextmanager
def _loading(world: World) -> Iterator[None]:
    with Redis.from_url(world.valkey.url, db=BALLAST_DB, socket_timeout=PATIENCE_S) as redis:
        for piece in range(PIECES):
            redis.eval(FILL, 0, str(BALLAST), f"{piece}-")
    restart = threading.Thread(target=world.restart_valkey, args=(0.0,))
    restart.start()
    yield
    restart.join()
    with Redis.from_url(world.valkey.url, db=BALLAST_DB, socket_timeout=PATIENCE_S) as redis:
        redis.flushdb(asynchronous=True)


# By a word that the error holds; redis-py makes a text of its own of some.
KINDS: dict[str, Callable[[World], AbstractContextManager[None]]] = {
    "used memory": _full,
    "MISCONF": _unable_to_save,
    "read only": _replica,
    "loading": _loading,
}
