"""Supervised loops: a fault is counted and named, and the loop starts again."""

import time
from collections.abc import Callable

import anyio
from fastapi import FastAPI

from app.background.loops import BackgroundLoops, RoundDone
from app.metrics import Metrics
from tests.app.conftest import Serve
from tests.app.exposition import value
from tests.app.problems import assert_problem
from worker.ledger.leases import FIRST_SEEN
from worker.queue.queue import JobQueue
from worker.schemas.jobs import new_id
from worker.storage import Storage


def test_a_loop_that_fails_is_started_again_and_is_down_until_its_next_round() -> None:
    metrics = Metrics()
    loops = BackgroundLoops(metrics, restart_s=0.05)
    seen: list[set[str]] = []

    async def loop(round_done: RoundDone) -> None:
        seen.append(set(loops.down))
        if len(seen) < 3:
            raise ZeroDivisionError
        round_done()
        seen.append(set(loops.down))
        await anyio.sleep_forever()

    async def run() -> None:
        with anyio.move_on_after(2):
            await loops.keep("loop", loop)

    anyio.run(run)
    assert seen == [set(), {"loop"}, {"loop"}, set()]
    text = metrics.exposition(None).decode()
    assert value(text, "vitrine_background_loop_failures_total", loop="loop") == 2


def test_a_loop_that_is_down_makes_the_service_unready(serve: Serve, jobs: JobQueue) -> None:
    jobs.leases.redis.set(FIRST_SEEN, "no time")  # a fault that the reconciler does not expect
    client = serve()
    app = client.app
    assert isinstance(app, FastAPI)
    app.state.services.loops.restart_s = 0.1
    wait_until(lambda: client.get("/health/ready").status_code == 503)
    body = assert_problem(client.get("/health/ready"), 503, "not_ready")
    assert body["detail"] == "Missing: background loop 'reconciler'."
    failures = "vitrine_background_loop_failures_total"
    assert value(client.get("/metrics").text, failures, loop="reconciler") >= 1
    jobs.leases.redis.delete(FIRST_SEEN)
    wait_until(lambda: client.get("/health/ready").status_code == 200)


def test_stray_objects_end_no_loop_and_stay_where_they_are(
    serve: Serve, jobs: JobQueue, storage: Storage
) -> None:
    stray = [
        *("generated/foo/x.png", "jobs/open/.DS_Store", "jobs/open/job_x", "uploads/.DS_Store"),
        *("idempotency/.cache/x", "jobs/scratch/.cache/x", "webhooks/pending/.DS_Store"),
        *("jobs/records/.DS_Store", "jobs/records/job_x/a.json", "models/.DS_Store"),
    ]
    for key in stray:
        storage.put(key, b"stray")
    left = f"jobs/scratch/{new_id('job')}/left"  # what the last step of a round deletes
    storage.put(left, b"")
    client = serve()
    wait_until(lambda: not storage.exists(left))
    wait_until(lambda: jobs.ledger.index.is_complete)
    assert client.get("/health/ready").status_code == 200
    assert [key for key in stray if not storage.exists(key)] == []


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
