"""Malformed and ambiguous HTTP requests to a real service: each is answered once, or refused.

Bodies that a server could mistake for a second request (request smuggling) contain a real one, so
that a second answer would reveal it.
"""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.service import Service
from tests.wire import DEADLINE_S, connect, received, statuses

QUIET_S = 0.5
HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
JSON = b"Content-Type: application/json\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
SMUGGLED = b"GET /models HTTP/1.1\r\n" + HOST + b"\r\n"
MANY = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 100) for i in range(700))


def get(headers: bytes = HOST, target: bytes = b"/health/live", version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = SMUGGLED, version: bytes = b"1.1") -> bytes:
    head = b"POST /generate HTTP/" + version + b"\r\n" + HOST + JSON + headers
    return head + b"\r\n" + body


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body)


LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
REFUSED = {
    "length before chunks": post(LENGTH + CHUNKED, b"0\r\n\r\n" + SMUGGLED),
    "chunks before length": post(CHUNKED + LENGTH, b"0\r\n\r\n" + SMUGGLED),
    "two lengths": post(b"Content-Length: 0\r\n" + LENGTH),
    "the same length twice": post(b"Content-Length: 0\r\n" * 2),
    "a list of lengths": post(b"Content-Length: 0, 0\r\n"),
    "a length with a sign": post(b"Content-Length: +0\r\n"),
    "a negative length": post(b"Content-Length: -1\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0x0\r\n"),
    "an empty length": post(b"Content-Length:\r\n"),
    "a length of 23 digits": post(b"Content-Length: 99999999999999999999999\r\n"),
    "a length on two lines": post(b"Content-Length: 0\r\n 0\r\n"),
    "a coding before chunks": post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "a coding after chunks": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "chunks twice": post(CHUNKED * 2, b"0\r\n\r\n"),
    "no chunks": post(b"Transfer-Encoding: identity\r\n"),
    "chunks misspelt": post(b"Transfer-Encoding: xchunked\r\n"),
    "chunks after a control character": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "chunks in HTTP/1.0": post(CHUNKED, b"0\r\n\r\n", version=b"1.0"),
    "no chunk size": chunks(b"\r\n\r\n"),
    "a chunk size that is none": chunks(b"zz\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk size": chunks(b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunks(b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a chunk size of 17 digits": chunks(b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk size and a space": chunks(b"2 \r\n{}\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": chunks(b"2\r\n{}X\r\n0\r\n\r\n"),
    "chunks with bare line feeds": chunks(b"2\n{}\n0\n\n" + SMUGGLED),
    "NUL in a chunk extension": chunks(b"2;a\0\r\n{}\r\n0\r\n\r\n"),
    "a length behind the chunks": chunks(b"2\r\n{}\r\n0\r\n" + LENGTH + b"\r\n" + SMUGGLED),
    "a folded header": get(HOST + b"X: a\r\n b\r\n"),
    "a header folded at once": get(HOST + b"X:\r\n b\r\n"),
    "a header folded before all": get(b" X: a\r\n" + HOST),
    "NUL in a header": get(HOST + b"X: a\0b\r\n"),
    "a carriage return in a header": get(HOST + b"X: a\rY: b\r\n"),
    "a bare line feed": get(HOST + b"X: a\nY: b\r\n"),
    "DEL in a header": get(HOST + b"X: a\x7f\r\n"),
    "a space before the colon": get(HOST + b"Content-Length : 0\r\n"),
    "a header without a colon": get(HOST + b"X\r\n"),
    "a header without a name": get(HOST + b": a\r\n"),
    "no host": get(b""),
    "two hosts": get(HOST * 2),
    "the target of a proxy": get(target=b"http://localhost/health/live"),
    "the target of a proxy to elsewhere": get(target=b"http://evil.example/health/live"),
    "a tunnel": b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a tunnel to a path": b"CONNECT /models HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": get(target=b"/health/live#models"),
    "a target without a slash": get(target=b"health/live"),
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in the target": get(target=b"/health/live /"),
    "bytes in the target": get(target=b"/health/\xff"),
    "bytes in the query": get(target=b"/health/live?q=\xff"),
    "a tab in the target": get(target=b"/health/\tlive"),
    "a method in lower case": b"get /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /health/live\r\n" + HOST + b"\r\n",
    "HTTP/0.9": get(version=b"0.9"),
    "HTTP/1.2": get(version=b"1.2"),
    "HTTP/2.0": get(version=b"2.0"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
}
TOO_LARGE = {
    "a long target": get(target=b"/health/live?" + b"a" * 70_000),
    "a long header": get(HOST + b"X: " + b"a" * 70_000 + b"\r\n"),
    "a long name": get(HOST + b"X" * 70_000 + b": a\r\n"),
    "many headers": get(HOST + MANY),
    "trailers": chunks(b"2\r\n{}\r\n0\r\n" + MANY * 5 + b"\r\n"),
    "a header that never ends": get(HOST + b"X: " + b"a" * 1_000_000)[:-4],
    "a chunk extension that never ends": chunks(b"2;a=" + b"a" * 1_000_000),
}
SERVED = {
    "no keep-alive": get(version=b"1.0"),
    "HTTP/1.0 without a host": get(b"", version=b"1.0"),
    "what follows a close": get(HOST + b"Connection: close\r\n") + SMUGGLED,
    "what follows HTTP/1.0": get(version=b"1.0") + SMUGGLED,
    "a target of 60 KB": get(target=b"/docs?" + b"a" * 60_000),
    "spaces around a length": post(b"Content-Length: \t2 \t\r\n", b"{}"),
    "chunks in capitals": post(CHUNKED.upper(), b"2\r\n{}\r\n0\r\n\r\n"),
    "chunks with an extension": chunks(b'2;a="b"\r\n{}\r\n0\r\n\r\n'),
    "a trailer": chunks(b"2\r\n{}\r\n0\r\nHost: evil.example\r\n\r\n"),
    "an offer of HTTP/2": get(HOST + UPGRADE),
    "an offer of HTTP/2 with a body": post(UPGRADE + b"Content-Length: 2\r\n", b"{}"),
    "an offer of HTTP/2 with chunks": post(UPGRADE + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "an offer of websockets": get(HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    "empty lines before it": b"\r\n\r\n" + get(),
}
OTHERWISE = {
    "a body that is a request": (400, post(LENGTH)),
    "a body that is a request behind an offer": (400, post(UPGRADE + LENGTH)),
    "a method that no route takes": (405, b"TRACE /models HTTP/1.1\r\n" + HOST + b"\r\n"),
    "another protocol's method": (405, b"SOURCE /models ICE/1.0\r\n" + HOST + b"\r\n"),
    "another name": (400, get(b"Host: evil.example\r\n", target=b"/models")),
    "a target of two slashes": (404, get(target=b"//evil.example/health/live")),
    "a space behind the host": (200, get(b"Host: localhost \r\n", target=b"/models")),
}


@pytest.fixture(scope="module")
def service(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The API alone; none of the requests below changes anything."""
    storage = f"file://{tmp_path_factory.mktemp('objects')}"
    running = Service({"VITRINE_REDIS_URL": valkey_url, "VITRINE_STORAGE_URL": storage})
    running.wait_until_ready()
    yield running
    errors = running.interrupt()
    running.close()
    assert "ERROR" not in errors


def ask(service: Service, request: bytes, quiet_s: float = QUIET_S) -> tuple[bytes, bool]:
    """The answer's bytes, and whether the connection is closed after them."""
    assert service.client.base_url.port is not None
    with connect(service.client.base_url.port) as wire:
        with suppress(ConnectionError):  # the service need not read all of it
            wire.sendall(request)
        return received(wire, quiet_s)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_ambiguous_is_refused_once(service: Service, case: str) -> None:
    answer, closed = ask(service, REFUSED[case], DEADLINE_S)
    assert statuses(answer) == [400]
    assert b"connection: close" in answer
    assert closed


@pytest.mark.parametrize("case", TOO_LARGE)
def test_headers_are_bounded(service: Service, case: str) -> None:
    answer, closed = ask(service, TOO_LARGE[case], DEADLINE_S)
    # Data that arrives after the close resets the connection, which can discard the answer.
    assert statuses(answer) in ([431], [])
    assert closed


@pytest.mark.parametrize("case", SERVED)
def test_what_is_rare_but_clear_is_served_once(service: Service, case: str) -> None:
    assert statuses(ask(service, SERVED[case])[0]) == [200]


@pytest.mark.parametrize("case", OTHERWISE)
def test_the_application_answers_the_rest(service: Service, case: str) -> None:
    expected, request = OTHERWISE[case]
    assert statuses(ask(service, request)[0]) == [expected]


def test_a_client_may_ask_before_it_sends_a_body(service: Service) -> None:
    expecting = b"Expect: 100-continue\r\nContent-Length: 2\r\n"
    assert statuses(ask(service, post(expecting, b"{}"))[0]) == [100, 200]
    assert statuses(ask(service, post(expecting, b"{}", version=b"1.0"))[0]) == [200]


def test_an_answer_in_two_pieces_does_not_wait_for_an_acknowledgement(service: Service) -> None:
    """Without TCP_NODELAY each answer waits 40 ms for the client's delayed acknowledgement."""
    assert service.client.base_url.port is not None
    took = []
    with connect(service.client.base_url.port) as wire:
        for _ in range(20):
            began = time.monotonic()
            wire.sendall(get())
            answer = b""
            while b'{"status":"ok"}' not in answer:
                answer += wire.recv(1000)
            took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.03


def test_the_log_tells_nothing_of_what_was_refused(service: Service) -> None:
    ask(service, get(HOST + b"X: secret\0\r\n"))
    assert "secret" not in service.read_errors()
