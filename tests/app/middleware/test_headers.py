"""Request headers that are lists: several lines are one list."""

import pytest
from fastapi.testclient import TestClient

from tests.app.problems import assert_problem
from tests.wire import connect, listening, received


def test_each_line_of_an_accept_header_counts(client: TestClient) -> None:
    lines = [("Accept", "text/html"), ("Accept", "application/json")]
    assert client.get("/models", headers=lines).status_code == 200
    lines = [("Accept", "application/json;q=0.5"), ("Accept", "image/webp")]
    answer = client.post("/generate", json={}, headers=lines)
    assert answer.headers["content-type"] == "image/webp"


def test_each_line_of_a_prefer_header_counts(client: TestClient) -> None:
    lines = [("Prefer", "wait=5"), ("Prefer", "respond-async")]
    assert client.post("/generate", json={}, headers=lines).status_code == 202


def test_each_line_of_a_content_encoding_counts(client: TestClient) -> None:
    lines = [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    answer = client.post("/generate", content=b"x", headers=lines)
    assert_problem(answer, 415, "unsupported_encoding")


@pytest.mark.parametrize("more", [b"", b"Prefer: wait=5\r\n"], ids=["fast path", "route"])
def test_the_fast_path_reads_lists_as_the_route_does(client: TestClient, more: bytes) -> None:
    head = b"POST /generate HTTP/1.1\r\nHost: testserver\r\nContent-Type: application/json\r\n"
    lines = b"Content-Length: 2\r\nAccept: application/json;q=0.5\r\nAccept: image/webp\r\n"
    with listening(client.app) as port, connect(port) as wire:
        wire.sendall(head + lines + more + b"\r\n{}")
        answer, _ = received(wire, quiet_s=1)
    assert b"content-type: image/webp" in answer
