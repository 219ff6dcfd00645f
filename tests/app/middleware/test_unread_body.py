"""Connections after an answer: closed where the body has not been read, else kept."""

import pytest
from fastapi.testclient import TestClient

from tests.wire import connect, listening, received, statuses

HOST = b" HTTP/1.1\r\nHost: testserver\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("line", "code"), [(b"POST /nowhere", 404), (b"PUT /generate", 405), (b"GET /models", 200)]
)
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_that_nobody_reads_is_not_received(
    client: TestClient, line: bytes, code: int, framing: bytes
) -> None:
    with listening(client.app) as port, connect(port) as wire:
        wire.sendall(line + HOST + framing)
        answer, closed = received(wire, quiet_s=2)
    assert (statuses(answer), closed) == ([code], True)


def test_a_bad_body_that_has_been_read_leaves_the_connection_open(client: TestClient) -> None:
    with listening(client.app) as port, connect(port) as wire:
        for _ in range(2):
            wire.sendall(b"POST /generate" + HOST + b"Content-Length: 2\r\n\r\n{]")
            answer, closed = received(wire, quiet_s=1)
            assert (statuses(answer), closed) == ([400], False)
