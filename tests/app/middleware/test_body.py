"""Request body limits, at their edges and on the wire."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.middleware.body import LEAST_BYTES, MAX_NESTING, MAX_VALUES
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.wire import connect, listening, received, status

JSON = {"Content-Type": "application/json"}
CHUNKED = b"Transfer-Encoding: chunked\r\n"
START = b"POST /generate HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"


def nested(depth: int) -> bytes:
    """A body of `depth` levels, of which its own object and the metadata are two."""
    lists = depth - 2
    return b'{"metadata": {"a": ' + b"[" * lists + b"1" + b"]" * lists + b"}}"


def test_the_deepest_nesting_passes_and_one_more_does_not(client: TestClient) -> None:
    assert client.post("/generate", content=nested(MAX_NESTING), headers=JSON).status_code == 200
    response = client.post("/generate", content=nested(MAX_NESTING + 1), headers=JSON)
    assert_problem(response, 400, "malformed_json")


@pytest.mark.parametrize(
    "item", [b"1", b"[]", b'"["', rb'"\\\", {\""', b'""'], ids=lambda item: item.decode()
)
def test_the_most_values_pass_and_one_more_does_not(client: TestClient, item: bytes) -> None:
    most = MAX_VALUES - 3  # the body, the metadata and the list are values too
    for count, code in ((most, 200), (most + 1, 400)):
        body = b'{"metadata": {"a": [' + b",".join([item] * count) + b"]}}"
        assert client.post("/generate", content=body, headers=JSON).status_code == code


def test_text_is_one_value_whatever_it_holds(client: TestClient) -> None:
    text = "[{,:" * MAX_VALUES + '"\\' * MAX_VALUES
    assert client.post("/generate", json={"metadata": {"a": text}}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"{}," * 349_000 + b"{}]",
        b"[" + b"[]," * 349_000 + b"[]]",
        b'["' + b'","' * 349_000 + b'"]',
        b"{" + b",".join(b'"%d":0' % n for n in range(90_000)) + b"}",
        b"[" + b",".join([b"1" * 4000] * 250) + b"]",
        b'{"search_space": {"a": [' + b",".join([b"{}"] * (MAX_VALUES - 3)) + b"]}}",
        rb'["' + rb"\u0041" * 170_000 + rb'"]',
    ],
    ids=lambda body: body[:20].decode(),
)
def test_no_json_stops_the_service(client: TestClient, body: bytes) -> None:
    assert len(body) <= 2**20
    with listening(client.app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        http.get("/health/live")
        slowest = 0.0
        with ThreadPoolExecutor(1) as pool:
            url, headers = f"{http.base_url}/jobs/nas", {**JSON, "Host": "testserver"}
            answer = pool.submit(httpx.post, url, content=body, headers=headers, timeout=30)
            while not answer.done():
                began = time.monotonic()
                assert http.get("/health/live").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
        assert answer.result().json()["code"] in ("malformed_json", "invalid_request")
    assert slowest < 0.1, slowest


def test_a_body_must_keep_its_pace_to_the_end(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.middleware.body.SILENCE_S", 0.5)
    with listening(client.app) as port, connect(port) as wire:
        wire.sendall(START.replace(b"shop", b"testserver") + b"Content-Length: 100000\r\n\r\n")
        wire.sendall(b" " * 50_000)
        wire.setblocking(False)
        began = time.monotonic()
        while time.monotonic() - began < 5:
            time.sleep(0.05)
            try:
                wire.send(b" ")
                answer = wire.recv(1000)
            except BlockingIOError:
                continue
            break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_steady_body_may_take_longer_than_a_silence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.middleware.body.SILENCE_S", 0.5)
    with listening(client.app) as port, connect(port) as wire:
        length = b"Content-Length: %d\r\n\r\n" % (10 * LEAST_BYTES)
        wire.sendall(START.replace(b"shop", b"testserver") + length)
        for _ in range(9):
            time.sleep(0.1)
            wire.sendall(b" " * LEAST_BYTES)
        wire.sendall(b"{}".ljust(LEAST_BYTES))
        assert status(wire) == 200


def test_the_largest_body_passes_and_one_byte_more_does_not(serve: Serve) -> None:
    client = serve(max_body_bytes=2000)
    assert client.post("/generate", content=b"{}".ljust(2000), headers=JSON).status_code == 200
    response = client.post("/generate", content=b"{}".ljust(2001), headers=JSON)
    assert_problem(response, 413, "body_too_large")


def test_a_body_without_a_length_is_bounded_while_it_arrives(serve: Serve) -> None:
    pieces = (b" " * 1000 for _ in range(100))
    response = serve(max_body_bytes=2000).post("/generate", content=pieces, headers=JSON)
    assert_problem(response, 413, "body_too_large")


def test_an_upload_is_bounded_by_its_own_limit(serve: Serve) -> None:
    client = serve(max_upload_bytes=50_000)
    files = {"file": b"x" * 40_000}
    assert_problem(client.post("/datasets", files=files), 422, "not_a_zip")
    files = {"file": b"x" * 60_000}
    assert_problem(client.post("/datasets", files=files), 413, "body_too_large")


def test_only_uploads_may_be_as_large_as_uploads(serve: Serve) -> None:
    client = serve(max_body_bytes=2000)
    response = client.post("/generate", files={"file": b"x" * 4000})
    assert_problem(response, 413, "body_too_large")


def test_numbers_keep_their_digits(client: TestClient) -> None:
    large = 2**63 - 1
    response = client.post("/generate", json={"seed": large, "metadata": {"n": large}})
    assert response.json()["data"][0]["seed"] == large
    assert response.json()["metadata"] == {"n": large}


@pytest.mark.parametrize("sent", ["a", "shop-1.2_3", "Z" * 64])
def test_a_sane_request_id_is_kept(client: TestClient, sent: str) -> None:
    assert client.get("/nowhere", headers={"X-Request-Id": sent}).json()["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "Z" * 65, "<script>", "é".encode("latin-1")])
def test_another_request_id_is_replaced(client: TestClient, sent: str | bytes) -> None:
    response = client.get("/health/live", headers=[(b"X-Request-Id", _bytes(sent))])
    assert response.headers["x-request-id"].startswith("req_")


def test_a_fault_says_nothing_but_its_request_id(serve: Serve) -> None:
    client = serve()

    def fail() -> None:
        raise RuntimeError("secret at /tmp/secret.py")

    assert isinstance(client.app, FastAPI)
    client.app.add_api_route("/fault", fail)
    response = client.get("/fault", headers={"X-Request-Id": "mine"})
    body = assert_problem(response, 500, "internal_error")
    assert body["request_id"] == "mine"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    "request_bytes",
    [
        START + b"Content-Length: -1\r\n\r\n{}",
        START + b"Content-Length: two\r\n\r\n{}",
        START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        START + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_a_body_of_unclear_length_is_refused(client: TestClient, request_bytes: bytes) -> None:
    with listening(client.app) as port, connect(port) as wire:
        wire.sendall(request_bytes)
        assert wire.recv(1000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("rest", [b"", b"zz\r\n"], ids=["cut off", "broken"])
def test_a_body_that_breaks_off_starts_nothing(
    client: TestClient, dataset_id: str, rest: bytes
) -> None:
    """Even if the part received is valid JSON."""
    body = json.dumps({"dataset": dataset_id, "model": "m", "resolution": 28}).encode()
    head = START.replace(b"/generate", b"/jobs/train").replace(b"shop", b"testserver")
    chunk = head + CHUNKED + b"\r\n%x\r\n%s\r\n" % (len(body), body)
    for end, begun in ((rest, 0), (b"0\r\n\r\n", 1)):
        with listening(client.app) as port, connect(port) as wire:
            wire.sendall(chunk)
            time.sleep(0.2)
            wire.sendall(end)
            wire.shutdown(socket.SHUT_WR)
            received(wire, quiet_s=1)
        # The server has stopped, so it has handled every request.
        assert len(client.get("/jobs").json()["data"]) == begun


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
