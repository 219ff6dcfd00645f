"""Fast path: its answers equal those of the FastAPI route for any request and any timing."""

import io
import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import torch
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.main import create_app
from app.server.connection import FastPathProtocol
from app.server.fast_path import Reply
from models.imaging.pixels import Pixels
from models.inference.engine_onnx import OnnxEngine
from tests.app.conftest import disconnect
from tests.app.middleware.test_access_log import lines
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry
from tests.wire import connect, listening, received, status, statuses
from worker.registry.registry import Registry
from worker.settings import Settings

DEADLINE_S = 10.0
QUIET_S = 0.5
SLOW_S = 0.2
MANY = 12  # answers, of megabytes each
BAG = {"category": "Bag", "seed": 5, "metadata": {"order": 3, "huge": 10**30}}
KEYS = f"{entry('generate', 'a')},{entry('manage', 'b')}"
JSON = {"Content-Type": "application/json"}
FALLBACK_HEADERS = {"Prefer": "wait=5"}  # which the fast path declines


class Http(httpx.Client):
    """A client of an API that a real server serves."""

    def __init__(self, app: FastAPI, port: int) -> None:
        # uvicorn closes the connection after the answer to an unhandled error.
        limits = httpx.Limits(max_keepalive_connections=0)
        super().__init__(base_url=f"http://127.0.0.1:{port}", limits=limits)
        self.app, self.port = app, port

    def counted(self, status: int, route: str = "/generate") -> float:
        """Number of `POST` requests to a route that were answered with this status."""
        labels = {"method": "POST", "route": route, "status": str(status)}
        value = self.app.state.services.metrics.registry.get_sample_value(
            "vitrine_http_requests_total", labels
        )
        return float(value or 0)

    def fallbacks(self) -> dict[str, float]:
        """Number of requests that the fast path has declined, by reason."""
        (family,) = self.app.state.services.metrics.fallbacks.collect()
        return {
            sample.labels["reason"]: sample.value
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def waiting(self) -> float:
        """Number of requests that wait for images."""
        name = "vitrine_generate_waiting_requests"
        return float(self.app.state.services.metrics.registry.get_sample_value(name))


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings of a service on loopback, with the changes that a test parametrizes."""
    return settings.model_copy(update={"allowed_hosts": "", **getattr(request, "param", {})})


@pytest.fixture
def http(
    settings: Settings,
    registry: Registry,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Http]:
    """The API over HTTP; its default model stays in the resolver's cache during a test."""
    monkeypatch.setattr("app.generation.model_resolver.REMEMBERED_S", 600.0)
    app = create_app(settings)
    with listening(app) as port, Http(app, port) as client:
        yield client
    disconnect(app)


@pytest.fixture
def no_fastapi_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make image requests fail that reach the FastAPI route."""

    async def unreachable(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("app.routers.generate.answer", unreachable)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images of each forward pass, which is made slow."""
    batches: list[int] = []
    compute = OnnxEngine.__call__

    def slow(*arguments: object) -> Pixels:
        images: Pixels = compute(*arguments)  # type: ignore[arg-type]
        batches.append(len(images))
        time.sleep(SLOW_S)
        return images

    monkeypatch.setattr(OnnxEngine, "__call__", slow)
    return batches


def plain(body: object, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A plain request as bytes."""
    content = json.dumps(body).encode()
    head = [
        b"POST /generate HTTP/" + version,
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(content),
        *headers,
    ]
    return b"\r\n".join([*head, b"", content])


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("no_fastapi_route")
def test_what_is_plain_takes_the_fast_path_and_nothing_else(http: Http) -> None:
    assert http.post("/generate", json={}).status_code == 200
    assert http.post("/generate", json={}, headers={"Accept": "image/webp"}).status_code == 200
    for headers in (FALLBACK_HEADERS, {"Idempotency-Key": "one"}, {"Accept": "application/zip"}):
        assert http.post("/generate", json={}, headers=headers).status_code == 500
    assert http.post("/generate", json={"response_format": "url"}).status_code == 500
    assert http.post("/generate?a=b", json={}).status_code == 422
    assert http.fallbacks() == {"header": 2, "form": 2}  # a query is no plain request's


def test_fallbacks_are_counted_by_their_reason(http: Http) -> None:
    http.post("/generate", json={"category": "Hat"})
    http.post("/generate", json={"model": "nobody"})
    http.post("/generate", json={}, headers={"Host": "evil.example"})
    http.post("/generate", content=" " * 2**15 + "{}", headers=JSON)
    http.post("/generate", json={"min_category_probability": 0.01})
    assert http.fallbacks() == {"invalid": 1, "model": 1, "host": 1, "large": 1, "filter": 1}
    exposed = http.get("/metrics", headers={"Accept": "text/plain"}).text
    assert 'vitrine_fast_path_fallbacks_total{reason="large"} 1.0' in exposed


@pytest.mark.parametrize("accept", ["application/json", "image/webp"])
def test_it_is_the_same_answer(http: Http, accept: str) -> None:
    fast, usual = (
        http.post("/generate", json=BAG, headers={"Accept": accept} | more)
        for more in ({}, FALLBACK_HEADERS)
    )
    assert (fast.status_code, usual.status_code) == (200, 200)
    assert fast.headers.keys() == usual.headers.keys()
    assert fast.headers["content-type"] == usual.headers["content-type"] == accept
    if accept != "application/json":
        assert fast.content == usual.content
        return
    first, second = fast.json(), usual.json()
    for answer in (first, second):
        del answer["id"], answer["timing"]
    assert first == second


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": {"n": 65}}, 422, "invalid_request"),
        ({"json": {"hue": 1}}, 422, "invalid_request"),
        ({"json": {"category": "Hat"}}, 422, "unknown_category"),
        ({"json": {"background": "red"}}, 422, "unsupported_parameter"),
        ({"json": {"model": "nobody"}}, 404, "model_not_found"),
        ({"json": {}, "headers": {"Accept": "image/gif"}}, 406, "not_acceptable"),
        ({"json": {}, "headers": {"Host": "evil.example"}}, 400, "bad_host"),
        ({"json": {}, "headers": {"Origin": "http://evil.example"}}, 403, "foreign_origin"),
        ({"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported_encoding"),
        (
            {"content": "{}", "headers": {"Content-Type": "text/plain"}},
            415,
            "unsupported_media_type",
        ),
        ({"content": '{"seed": 1, "seed": 2}', "headers": JSON}, 400, "malformed_json"),
        ({"content": '{"truncation": NaN}', "headers": JSON}, 422, "invalid_request"),
        ({"content": "", "headers": JSON}, 422, "invalid_request"),
        ({"content": " " * 2**21 + "{}", "headers": JSON}, 413, "body_too_large"),
    ],
)
def test_what_is_wrong_is_refused(
    http: Http, request_: dict[str, object], status: int, code: str
) -> None:
    response = http.post("/generate", **request_)  # type: ignore[arg-type]
    assert_problem(response, status, code)
    assert http.counted(200) == 0


@pytest.mark.usefixtures("no_fastapi_route")
@pytest.mark.parametrize("settings", [{"api_key_hashes": KEYS}], indirect=True)
def test_keys_count(http: Http) -> None:
    assert http.post("/generate", json={}, headers=bearer("a")).status_code == 200
    assert_problem(http.post("/generate", json={}, headers=bearer("b")), 403, "forbidden")
    assert_problem(http.post("/generate", json={}), 401, "unauthorized")


@pytest.mark.parametrize("settings", [{"rate_limit": "2/hour"}], indirect=True)
def test_so_does_a_rate_limit_by_the_usual_way(http: Http) -> None:
    for left in ("1", "0"):
        answer = http.post("/generate", json={})
        assert (answer.status_code, answer.headers["ratelimit-remaining"]) == (200, left)
    assert_problem(http.post("/generate", json={}), 429, "rate_limited")


@pytest.mark.usefixtures("no_fastapi_route")
@pytest.mark.parametrize("settings", [{"max_queue": 3}], indirect=True)
def test_who_comes_when_the_queue_is_full_is_sent_away(http: Http) -> None:
    assert_problem(http.post("/generate", json={"n": 4}), 429, "queue_full")
    assert http.post("/generate", json={"n": 3}).status_code == 200
    assert http.fallbacks() == {}
    wait_for(lambda: http.counted(429) == 1 and http.waiting() == 0)


def test_it_is_counted_and_logged(http: Http, written: io.StringIO) -> None:
    answer = http.post("/generate", json={}, headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    wait_for(lambda: bool(lines(written, "app.access")))
    (line,) = lines(written, "app.access")
    assert http.counted(200) == 1
    assert (line["request_id"], line["route"], line["status"]) == ("mine", "/generate", 200)
    assert line["bytes"] == len(answer.content)
    assert http.waiting() == 0
    others = http.post("/generate", json={}, headers={"X-Request-Id": "not sane!"})
    assert others.headers["x-request-id"].startswith("req_")


@pytest.mark.usefixtures("no_fastapi_route")
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ZeroDivisionError, 500, "internal_error"),
        (torch.OutOfMemoryError, 503, "out_of_memory"),
    ],
)
def test_a_failed_forward_pass_is_answered_once_and_not_repeated(
    http: Http,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    status: int,
    code: str,
) -> None:
    passes: list[object] = []

    def broken(*_: object) -> Pixels:
        passes.append(error)
        raise error

    monkeypatch.setattr(OnnxEngine, "__call__", broken)
    assert_problem(http.post("/generate", json={}, headers={"X-Request-Id": "mine"}), status, code)
    assert len(passes) == 1
    wait_for(lambda: http.counted(status) == 1)


@pytest.mark.usefixtures("no_fastapi_route")
def test_an_answer_that_cannot_be_packed_is_a_logged_fault(
    http: Http, monkeypatch: pytest.MonkeyPatch, written: io.StringIO
) -> None:
    monkeypatch.setattr("app.server.fast_path.encode_body", fail)
    assert_problem(http.post("/generate", json={}), 500, "internal_error")
    (line,) = lines(written, "app.error_handlers")
    assert "ZeroDivisionError" in line["exc_info"]


def test_a_bug_before_anything_is_submitted_costs_no_answer(
    http: Http, monkeypatch: pytest.MonkeyPatch, written: io.StringIO
) -> None:
    monkeypatch.setattr("app.server.fast_path.check_json", fail)
    assert http.post("/generate", json={}).status_code == 200
    assert http.fallbacks() == {"fault": 1}
    assert len(lines(written, "app.server.fast_path")) == 1


def fail(*_: object) -> bytes:
    raise ZeroDivisionError


@pytest.mark.parametrize("headers", [[], [b"Prefer: wait=5"]])
def test_whoever_goes_is_not_waited_for_either_way(
    http: Http, batches: list[int], headers: list[bytes]
) -> None:
    wire = connect(http.port)
    wire.sendall(plain({"n": 64}, *headers))
    wait_for(lambda: bool(batches))
    assert http.waiting() == 1
    wire.close()
    wait_for(lambda: http.counted(499) == 1)
    assert http.waiting() == 0
    time.sleep(8 * SLOW_S)
    assert sum(batches) < 64
    assert http.post("/generate", json={}).status_code == 200


def test_a_client_may_leave_at_the_last_moment(
    http: Http, monkeypatch: pytest.MonkeyPatch, written: io.StringIO
) -> None:
    """Between the end of its images and the callback that answers."""
    respond = FastPathProtocol._respond

    def late(self: FastPathProtocol, cycle: RequestResponseCycle, reply: Reply) -> None:
        self.transport.abort()
        self.loop.call_later(0.1, respond, self, cycle, reply)

    monkeypatch.setattr(FastPathProtocol, "_respond", late)
    with connect(http.port) as wire:
        wire.sendall(plain({}))
        assert received(wire, QUIET_S) == (b"", True)
    monkeypatch.undo()
    time.sleep(0.3)
    assert lines(written, "asyncio") == []


@pytest.mark.parametrize("cut", [1, 60, -1])
def test_what_comes_in_pieces_is_answered_too(http: Http, cut: int) -> None:
    request = plain({})
    with connect(http.port) as wire:
        wire.sendall(request[:cut])
        time.sleep(0.1)
        wire.sendall(request[cut:])
        assert status(wire) == 200
        wire.sendall(request)
        assert status(wire) == 200


def test_a_body_that_does_not_come_is_not_waited_for(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.middleware.body.SILENCE_S", 0.2)
    with connect(http.port) as wire:
        wire.sendall(plain({})[:-1])
        assert status(wire) == 408


@pytest.mark.parametrize("body", [b"", b"no\r\n"])
def test_half_a_request_whose_connection_has_ended_is_not_held(
    http: Http, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr("app.server.connection.BODY_S", 4 * DEADLINE_S)
    head = plain(None, b"Transfer-Encoding: chunked").replace(b"Content-Length: 4\r\n", b"")
    with connect(http.port) as wire:
        wire.sendall(head.removesuffix(b"null") + body)
    wait_for(lambda: http.counted(400, "none") == 1)


def test_what_comes_behind_a_request_does_not_take_its_answer(
    http: Http, batches: list[int]
) -> None:
    with connect(http.port) as wire:
        wire.sendall(plain({}))
        wait_for(lambda: bool(batches))
        wire.sendall(b"nonsense\r\n\r\n")
        answer, closed = received(wire, 4 * SLOW_S)
    assert (statuses(answer), closed) == ([200], True)


@pytest.mark.parametrize("settings", [{"max_body_bytes": 1024}], indirect=True)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"2\r\n{}\r\n0\r\n\r\n", 200),
        (b"2\r\n{}\r\nno\r\n", 400),
        (b"401\r\n%1025s\r\n0\r\n\r\n" % b"{}", 413),
    ],
)
def test_a_body_in_chunks_is_held_to_the_same(http: Http, body: bytes, expected: int) -> None:
    head = plain(None, b"Transfer-Encoding: chunked").replace(b"Content-Length: 4\r\n", b"")
    with connect(http.port) as wire:
        wire.sendall(head.removesuffix(b"null") + body)
        assert status(wire) == expected


def test_a_body_that_is_asked_for_comes(http: Http) -> None:
    request = plain({}, b"Expect: 100-continue")
    with connect(http.port) as wire:
        wire.sendall(request[:-2])
        assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(request[-2:])
        assert status(wire) == 200


def test_requests_sent_at_once_are_answered_in_their_order(http: Http, batches: list[int]) -> None:
    numbers = range(100, 104)
    with connect(http.port) as wire:
        wire.sendall(b"".join(plain({"seed": number}) for number in numbers))
        answer, _ = received(wire, 4 * SLOW_S)
    assert statuses(answer) == [200] * 4
    places = [answer.index(b'"seed":%d' % number) for number in numbers]
    assert places == sorted(places)
    assert sum(batches) == 4


@pytest.mark.usefixtures("no_fastapi_route")
def test_a_connection_ends_where_the_client_says_so(http: Http) -> None:
    for request in (plain({}, b"Connection: close"), plain({}, version=b"1.0")):
        with connect(http.port) as wire:
            wire.sendall(request)
            answer, closed = received(wire, QUIET_S)
        assert (statuses(answer), closed) == ([200], True)
        assert b"connection: close\r\n" in answer


def test_answers_do_not_pile_up_before_a_client_that_does_not_read(http: Http) -> None:
    with connect(http.port) as wire:
        for number in range(MANY):
            wire.sendall(plain({"n": 64, "size": "512x512", "seed": number}))
            time.sleep(0.5)
        wait_for(lambda: http.waiting() == 0)
        assert http.counted(200) < MANY


def test_a_server_that_ends_answers_first(
    settings: Settings,
    registry: Registry,  # noqa: ARG001
    batches: list[int],
) -> None:
    app = create_app(settings)
    with listening(app) as port:
        wire = connect(port)
        wire.sendall(plain({}))
        wait_for(lambda: bool(batches))
    answer, closed = received(wire, QUIET_S)
    wire.close()
    disconnect(app)
    assert (statuses(answer), closed) == ([200], True)
