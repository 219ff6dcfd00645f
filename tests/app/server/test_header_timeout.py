"""Header timeout: slow clients (slowloris) are disconnected, and do not delay others."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from tests.wire import DEADLINE_S, connect, listening, status

HEAD = b"POST /generate HTTP/1.1\r\nHost: testserver\r\nContent-Type: application/json\r\n"
WHOLE = b"GET /health/live HTTP/1.1\r\nHost: testserver\r\n\r\n"
PATIENCE_S = 0.5


@pytest.fixture
def port(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a real server with short timeouts."""
    monkeypatch.setattr("app.server.header_timeout.HEADERS_S", PATIENCE_S)
    monkeypatch.setattr("app.middleware.body.SILENCE_S", PATIENCE_S)
    with listening(client.app) as port:
        yield port


def seconds_until_closed(wire: socket.socket, piece: bytes) -> float:
    """How long a connection stays open while `piece`, unless empty, is sent repeatedly."""
    began = time.monotonic()
    wire.settimeout(0.05)
    while time.monotonic() - began < DEADLINE_S:
        try:
            if piece:
                wire.sendall(piece)
            if not wire.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("sent", "piece"), [(b"", b""), (HEAD, b""), (HEAD + b"X-Slow: ", b"a"), (b"GET", b"")], ids=str
)
def test_headers_that_do_not_come_are_not_waited_for(port: int, sent: bytes, piece: bytes) -> None:
    with connect(port) as wire:
        wire.sendall(sent)
        assert PATIENCE_S / 2 < seconds_until_closed(wire, piece) < DEADLINE_S / 2


def test_neither_are_those_of_a_second_request(port: int) -> None:
    with connect(port) as wire:
        wire.sendall(WHOLE)
        assert status(wire) == 200
        wire.sendall(HEAD)
        assert seconds_until_closed(wire, b"X-Slow: a\r\n") < DEADLINE_S / 2


def test_a_connection_that_is_used_lives_on(port: int) -> None:
    with connect(port) as wire:
        began = time.monotonic()
        while time.monotonic() - began < 3 * PATIENCE_S:
            wire.sendall(WHOLE)
            assert status(wire) == 200
            time.sleep(PATIENCE_S / 5)


@pytest.mark.parametrize(
    ("sent", "piece"),
    [(WHOLE, b"\r\n"), (WHOLE.replace(b"\r\n\r\n", b"\r\nContent-Length: 999\r\n\r\n"), b"a")],
    ids=["nothing", "the rest of a body"],
)
def test_what_trickles_behind_an_answer_is_not_waited_for(
    port: int, sent: bytes, piece: bytes
) -> None:
    with connect(port) as wire:
        wire.sendall(sent)
        assert status(wire) == 200
        assert seconds_until_closed(wire, piece) < DEADLINE_S / 2


@pytest.mark.parametrize("piece", [b"", b" "])
def test_a_body_that_comes_too_slowly_is_answered_and_closed(port: int, piece: bytes) -> None:
    with connect(port) as wire:
        wire.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        began, answer = time.monotonic(), b""
        wire.settimeout(0.1)
        while b"too_slow" not in answer and time.monotonic() - began < DEADLINE_S:
            try:
                answer += wire.recv(10_000)
            except TimeoutError:
                wire.sendall(piece)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"too_slow"' in answer
        assert b"connection: close" in answer.lower()


def test_a_healthy_client_is_served_beside_many_slow_ones(port: int) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(200)]
        for wire in slow:
            wire.sendall(HEAD)
        with connect(port) as healthy:
            for _ in range(5):
                healthy.sendall(WHOLE)
                answer = b""
                while b'{"status":"ok"}' not in answer:
                    answer += healthy.recv(10_000)
        assert seconds_until_closed(slow[0], b"") < DEADLINE_S / 2
