"""Write timeout: clients that do not read their answers hold neither memory nor a connection."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import create_app
from tests.app.conftest import disconnect
from tests.wire import connect, listening
from worker.registry.registry import Registry
from worker.settings import Settings

WINDOW_S = 1.0
LEAST_BYTES = 20_000
SIZE = 24 * 2**20  # of an answer; several times what the kernel's buffers take
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = 64 * 1024


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.write_timeout.WINDOW_S", WINDOW_S)
    monkeypatch.setattr("app.server.write_timeout.LEAST_BYTES", LEAST_BYTES)


async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
    """An application that answers `SIZE` bytes at once."""
    headers = [(b"content-length", b"%d" % SIZE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(SIZE)})


class Events:
    """An application that streams `pieces` with pauses, and counts what it has sent."""

    def __init__(self, piece: bytes, pause_s: float, pieces: int) -> None:
        self.piece, self.pause_s, self.pieces = piece, pause_s, pieces
        self.sent = 0
        self.gone = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        watch = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while self.sent < self.pieces and not watch.done():
            await send({"type": "http.response.body", "body": self.piece, "more_body": True})
            self.sent += 1
            await asyncio.sleep(self.pause_s)
        self.gone = watch.done()
        watch.cancel()
        await send({"type": "http.response.body"})


@contextmanager
def asking(app: ASGIApp, request: bytes = GET) -> Iterator[socket.socket]:
    """A client that has sent a request."""
    with listening(app) as port, connect(port) as wire:
        wire.sendall(request)
        yield wire


def read_all(wire: socket.socket, pause_s: float = 0.0, count: int = 0) -> int:
    """Read, with a pause after each piece, until `SIZE` or a broken connection; returns the bytes.

    `count` were read before.
    """
    wire.settimeout(3 * WINDOW_S)
    try:
        while count < SIZE and (piece := wire.recv(PIECE)):
            count += len(piece)
            time.sleep(pause_s)
    except ConnectionError:
        pass
    return count


def wait_for(reached: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_answer_that_is_not_read_is_dropped() -> None:
    with asking(large) as wire:
        time.sleep(2.5 * WINDOW_S)
        assert read_all(wire) < SIZE


def test_so_is_one_that_is_read_too_slowly() -> None:
    with asking(large) as wire:
        taken = 0
        for _ in range(20):
            taken += len(wire.recv(LEAST_BYTES // 20))
            time.sleep(WINDOW_S / 5)
        assert read_all(wire, count=taken) < SIZE


def test_a_client_that_reads_slowly_but_steadily_gets_all() -> None:
    with asking(large) as wire:
        began = time.monotonic()
        assert read_all(wire, pause_s=0.01) >= SIZE
        assert time.monotonic() - began > 3 * WINDOW_S


def test_an_idle_stream_goes_on() -> None:
    events = Events(b"event", 3 * WINDOW_S, 2)
    with asking(events) as wire:
        wire.settimeout(10 * WINDOW_S)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            piece = wire.recv(PIECE)
            assert piece
            answer += piece
    assert answer.count(b"event") == 2


def test_a_stream_that_is_not_read_ends_and_waits_meanwhile() -> None:
    events = Events(bytes(PIECE), 0.0, 10**6)
    with asking(events):
        wait_for(lambda: events.gone, 10 * WINDOW_S)
    assert events.sent * PIECE < SIZE


def test_of_too_many_unread_answers_the_oldest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.server.write_timeout.WINDOW_S", 60.0)
    monkeypatch.setattr("app.server.write_timeout.MOST_UNSENT_BYTES", int(2.5 * SIZE))
    with listening(large) as port, ExitStack() as stack:
        wires = [stack.enter_context(connect(port)) for _ in range(4)]
        for wire in wires:
            wire.sendall(GET)
            time.sleep(0.3)
        whole = [read_all(wire) >= SIZE for wire in wires]
    assert whole[0] is False
    assert whole[2:] == [True, True]


def test_answers_of_the_fast_path_are_dropped_too(
    settings: Settings,
    registry: Registry,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.generation.model_resolver.REMEMBERED_S", 600.0)
    app = create_app(settings)
    body = json.dumps({"n": 64, "size": "512x512", "seed": 1}).encode()
    head = b"POST /generate HTTP/1.1\r\nHost: testserver\r\nContent-Type: application/json\r\n"
    with asking(app, head + b"Content-Length: %d\r\n\r\n" % len(body) + body) as wire:
        wait_for(lambda: answered(app) == 1, 60)
        time.sleep(2.5 * WINDOW_S)
        size = int(wire.recv(PIECE).split(b"content-length: ")[1].split(b"\r\n")[0])
        assert read_all(wire) < size - PIECE
    disconnect(app)


def answered(app: FastAPI) -> float:
    labels = {"method": "POST", "route": "/generate", "status": "200"}
    registry = app.state.services.metrics.registry
    return float(registry.get_sample_value("vitrine_http_requests_total", labels) or 0)
