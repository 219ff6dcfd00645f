"""Pipelined requests on one connection: answered in order, complete, and bounded."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from app.server.strict_protocol import MAX_HEAD_BYTES, MAX_WAITING
from tests.wire import connect, listening, received, statuses

QUIET_S = 0.5
HOST = b"Host: a\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(path: bytes, headers: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n"


def post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + headers + length + b"\r\n" + body


class App:
    """Answers with the path and the body; some paths take a while, or never end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.begun.append(path)
        if path == "/stream":
            await self.stream(receive, send)
        else:
            await asyncio.sleep(0.3 if path == "/slow" else 0)
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            await start(send)
            answer = b"<%s:%s>" % (path.encode(), body)
            await send({"type": "http.response.body", "body": answer})
        self.headers = dict(scope["headers"])
        self.ended.append(path)

    async def stream(self, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"<begun>", "more_body": True})
        gone = False
        while not gone:
            try:
                gone = (await asyncio.wait_for(receive(), 0.1))["type"] == "http.disconnect"
            except TimeoutError:
                more = {"type": "http.response.body", "body": b"<more>", "more_body": True}
                await send(more)


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr("app.server.header_timeout.HEADERS_S", 1.0)
    with listening(app) as port:
        yield port


def ask(port: int, *pieces: bytes) -> tuple[bytes, bool]:
    with connect(port) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            wire.sendall(piece)
            time.sleep(0.002)
        return received(wire, QUIET_S)


def until(wire: socket.socket, expected: bytes) -> None:
    answer = b""
    while expected not in answer:
        piece = wire.recv(1000)
        assert piece, answer
        answer += piece


def eventually(app: App, ended: int) -> None:
    deadline = time.monotonic() + 5
    while len(app.ended) < ended:
        assert time.monotonic() < deadline, (app.begun, app.ended)
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_requests_sent_at_once_are_answered_in_their_order(port: int, size: int) -> None:
    sent = get(b"/slow") + post(b"/1", b"one") + get(b"/2", UPGRADE) + get(b"/3")
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    answer, closed = ask(port, *pieces)
    bodies = [b"</slow:>", b"</1:one>", b"</2:>", b"</3:>"]
    places = [answer.find(body) for body in bodies]
    assert -1 not in places
    assert places == sorted(places)
    assert statuses(answer) == [200] * 4
    assert not closed


@pytest.mark.parametrize("size", [1, 40, 10_000])
@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_an_offered_upgrade_takes_no_body_away(app: App, port: int, size: int, coding: str) -> None:
    body = get(b"/smuggled")
    if coding == "length":
        sent = post(b"/1", body, UPGRADE)
    else:
        head = b"POST /1 HTTP/1.1\r\n" + HOST + UPGRADE + CHUNKED
        sent = head + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    sent += get(b"/2")
    answer, _ = ask(port, *[sent[at : at + size] for at in range(0, len(sent), size)])
    assert b"</1:%s>" % body in answer
    assert app.begun == ["/1", "/2"]


def test_an_offered_upgrade_keeps_the_connection_no_longer(app: App, port: int) -> None:
    offer = b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"
    answer, closed = ask(port, post(b"/1", b"one", offer) + get(b"/2"))
    assert b"</1:one>" in answer
    assert closed
    assert app.begun == ["/1"]


def test_trailers_are_no_headers(app: App, port: int) -> None:
    chunks = b"1\r\na\r\n0\r\nAuthorization: b\r\n\r\n"
    ask(port, b"POST /slow HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n" + chunks)
    assert set(app.headers) == {b"host", b"transfer-encoding"}


@pytest.mark.parametrize(
    "fault", [b"GARBAGE\r\n\r\n", get(b"/2", HOST), post(b"/2", b"", CHUNKED), b"\0"]
)
def test_a_fault_is_not_the_answer_to_the_request_before_it(
    app: App, port: int, fault: bytes
) -> None:
    answer, closed = ask(port, get(b"/slow") + get(b"/1") + fault)
    assert b"</slow:>" in answer
    assert b"</1:>" in answer
    assert statuses(answer) == [200, 200]
    assert closed
    assert app.begun == ["/slow", "/1"]


def test_nor_is_one_in_a_body_that_waits_for_its_turn(app: App, port: int) -> None:
    head = b"POST /1 HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n"
    answer, closed = ask(port, get(b"/slow") + head + b"zz\r\n")
    assert statuses(answer) == [200]
    assert closed
    assert app.begun == ["/slow"]


def test_a_fault_behind_an_answer_that_has_begun_is_not_written_into_it(
    app: App, port: int
) -> None:
    with connect(port) as wire:
        wire.sendall(b"POST /stream HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n")
        until(wire, b"<begun>")
        wire.sendall(b"zz\r\n")
        answer, closed = received(wire, 2)
        assert statuses(answer) == []
        assert closed
    eventually(app, 1)


def test_whoever_goes_takes_all_requests_along(app: App, port: int) -> None:
    """uvicorn alone would disconnect only the newest request, and the stream would not end."""
    with connect(port) as wire:
        wire.sendall(get(b"/stream"))
        until(wire, b"<begun>")
        wire.sendall(get(b"/1"))
        until(wire, b"<more>")
    eventually(app, 1)
    assert app.begun == ["/stream"]


def test_few_requests_of_one_connection_wait(app: App, port: int) -> None:
    """Further requests are not kept."""
    sent = get(b"/slow") + get(b"/1") * 5000
    answer, closed = ask(port, sent)
    assert closed
    assert len(app.begun) <= 1 + MAX_WAITING
    assert len(statuses(answer)) <= 1 + MAX_WAITING


def test_a_head_may_be_as_large_as_it_may_and_no_larger(port: int) -> None:
    room = MAX_HEAD_BYTES - len(b"/1") - len(b"host: a\r\n") - len(b"X: \r\n")
    assert statuses(ask(port, get(b"/1", b"X: " + b"a" * room + b"\r\n"))[0]) == [200]
    assert statuses(ask(port, get(b"/1", b"X: " + b"a" * (room + 1) + b"\r\n"))[0]) == [431]


def test_a_large_body_is_no_large_head(port: int) -> None:
    answer, _ = ask(port, post(b"/1", b"a" * 3_000_000) + get(b"/2"))
    assert b"</2:>" in answer


@pytest.mark.parametrize(
    "begin", [b"", get(b"/1"), post(b"/1", b"a") + b"\r\n"], ids=["at once", "later", "behind"]
)
def test_a_head_that_grows_for_ever_is_refused(port: int, begin: bytes) -> None:
    with connect(port) as wire:
        wire.sendall(begin + b"GET / HTTP/1.1\r\nX: ")
        sent = 0
        try:
            while sent < 10 * MAX_HEAD_BYTES:
                sent += wire.send(b"a" * 1000)
                time.sleep(0.001)
        except ConnectionError:
            pass
    assert sent < 10 * MAX_HEAD_BYTES


def test_a_slow_head_does_not_end_the_answer_before_it(app: App, port: int) -> None:
    with connect(port) as wire:
        wire.sendall(get(b"/stream") + b"GET /1")
        for _ in range(20):  # two seconds
            until(wire, b"<more>")
    eventually(app, 1)
