"""Event streams: many clients of one job share one reader, and each misses nothing."""

import re
import socket
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from redis import Redis

from app.main import create_app
from tests.app.conftest import disconnect
from tests.wire import connect, listening, received
from worker.attempt.attempt import Attempt
from worker.queue.queue import JobQueue
from worker.registry.registry import Registry
from worker.schemas.jobs import JobProgress, JobRecord
from worker.schemas.requests import TrainJob
from worker.settings import Settings

MANY = 300  # more than Redis's pool has connections
DEADLINE_S = 20.0


@pytest.fixture
def app(settings: Settings, registry: Registry) -> Iterator[FastAPI]:  # noqa: ARG001
    """An API under its own name."""
    app = create_app(settings.model_copy(update={"allowed_hosts": ""}))
    yield app
    disconnect(app)


def running(jobs: JobQueue) -> Attempt:
    """A job that a process has claimed."""
    record = jobs.submit("train", TrainJob(dataset="ds_00000000000000sample", model="m"))
    held = jobs.ledger.claim(record.id, "delivery-1")
    assert held is not None
    return Attempt(jobs.ledger, held)


def followed(port: int, record: JobRecord, after: str = "") -> socket.socket:
    """A connection on which a job's events arrive."""
    wire = connect(port)
    last = f"Last-Event-ID: {after}\r\n" if after else ""
    head = f"GET /jobs/{record.id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n{last}\r\n"
    wire.sendall(head.encode())
    return wire


def whole(wire: socket.socket) -> str:
    """What arrives until the stream ends."""
    wire.settimeout(DEADLINE_S)
    parts = b""
    while b"\r\n0\r\n\r\n" not in parts:
        piece = wire.recv(65536)
        assert piece, parts[-500:]
        parts += piece
    wire.close()
    return parts.decode()


def kinds(text: str) -> list[str]:
    """The events of a stream, in their order."""
    return re.findall(r"event: (\w+)", text)


def test_many_streams_of_one_job_all_see_it_end(app: FastAPI, jobs: JobQueue, redis: Redis) -> None:
    attempt = running(jobs)
    with listening(app) as port:
        wires = [followed(port, attempt.record) for _ in range(MANY)]
        time.sleep(2)
        assert redis.info("clients")["connected_clients"] < 60
        attempt.report("training", JobProgress(step=1), {"loss": 1.0})
        attempt.succeed({})
        texts = [whole(wire) for wire in wires]
    expected = ["status", "status", "progress", "metric", "status"]
    assert {tuple(kinds(text)) for text in texts} == {tuple(expected)}


def test_streams_begin_where_each_client_has_stopped(app: FastAPI, jobs: JobQueue) -> None:
    attempt = running(jobs)
    first, second = jobs.ledger.events.read(attempt.record.id)
    with listening(app) as port:
        wires = [followed(port, attempt.record, seen) for seen in (second.id, "", first.id)]
        time.sleep(0.5)
        attempt.succeed({})
        assert [kinds(whole(wire)) for wire in wires] == [["status"] * n for n in (1, 3, 2)]


def test_streams_of_several_jobs_are_told_apart(app: FastAPI, jobs: JobQueue) -> None:
    attempts = [running(jobs) for _ in range(5)]
    with listening(app) as port:
        wires = []
        for attempt in attempts:
            wires.append(followed(port, attempt.record))
            time.sleep(0.1)
        for number, attempt in enumerate(attempts):
            for step in range(number):
                attempt.report("training", JobProgress(step=step), {})
            attempt.succeed({})
        counts = [kinds(whole(wire)).count("progress") for wire in wires]
    assert counts == [0, 1, 2, 3, 4]


def test_a_client_that_is_far_behind_gets_what_the_feed_has_dropped(
    app: FastAPI, jobs: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.event_stream.KEPT", 3)
    attempt = running(jobs)
    with listening(app) as port:
        early = followed(port, attempt.record)
        time.sleep(0.3)
        for step in range(20):
            attempt.log(f"step {step}")
        late = followed(port, attempt.record)
        time.sleep(0.3)
        attempt.succeed({})
        texts = [whole(early), whole(late)]
    assert [kinds(text).count("log") for text in texts] == [20, 20]


def test_streams_end_where_events_cannot_be_read(
    app: FastAPI, jobs: JobQueue, redis: Redis
) -> None:
    damaged, other = running(jobs), running(jobs)
    with listening(app) as port:
        wires = [followed(port, attempt.record) for attempt in (damaged, other)]
        time.sleep(0.5)
        redis.xadd(f"vitrine:events:{damaged.record.id}", {"kind": "strange", "data": "{}"})
        for wire in wires:
            with wire:
                wire.settimeout(DEADLINE_S)
                answer = received(wire, DEADLINE_S)[0]
            assert answer.endswith(b"0\r\n\r\n")  # the clients come again


def test_nothing_is_read_once_nobody_follows(app: FastAPI, jobs: JobQueue, redis: Redis) -> None:
    attempt = running(jobs)
    with listening(app) as port:
        wire = followed(port, attempt.record)
        time.sleep(0.5)
        blocked = redis.info("clients")["blocked_clients"]
        wire.close()
        deadline = time.monotonic() + DEADLINE_S
        while redis.info("clients")["blocked_clients"] >= blocked > 0:
            attempt.log("hello")  # by which the server finds out
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert app.state.services.event_streams._feeds == {}
