"""Connection limit: with few open files allowed, existing clients and health checks go on."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from app.main import create_app
from app.server import open_files
from tests.app.conftest import disconnect
from tests.app.problems import assert_problem
from tests.service import Service
from tests.wire import connect, listening, received, statuses
from worker.registry.registry import Registry
from worker.settings import Settings

FILES = 256
LIMIT = 64  # connections, by `most_connections`
MANY = 400  # connections, more than files
WAIT_S = 2.0  # for surplus connections to be closed; less than all others get for their headers
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
GENERATE = (
    b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)

Start = Callable[[str], Service]


@pytest.fixture
def start(redis_url: str, storage_url: str) -> Iterator[Start]:
    """Starts the API as a process under the given `ulimit`."""
    with ExitStack() as stack:

        def started(limits: str) -> Service:
            backing = {"VITRINE_REDIS_URL": redis_url, "VITRINE_STORAGE_URL": storage_url}
            service = Service(backing, limits=limits)
            stack.callback(service.close)
            service.wait_until_ready()
            return service

        yield started


def opened(stack: ExitStack, service: Service, count: int) -> list[socket.socket]:
    """Connections on which nothing is sent."""
    assert service.client.base_url.port is not None
    return [stack.enter_context(connect(service.client.base_url.port)) for _ in range(count)]


def test_with_few_files_existing_clients_and_health_checks_go_on(start: Start) -> None:
    service = start(f"-n {FILES}")
    assert service.client.get("/models").status_code == 200  # and its connection stays open
    unkept = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=service.url, limits=unkept) as others, ExitStack() as stack:
        opened(stack, service, MANY)
        assert service.client.get("/models").status_code == 200
        assert service.client.post("/generate", json={}).status_code == 200
        time.sleep(WAIT_S)
        for path in ("/health/live", "/health/ready"):
            assert others.get(path).status_code == 200
        refused = others.get("/models")
        assert_problem(refused, 503, "too_many_connections")
        assert refused.headers["connection"] == "close"
        assert others.post("/generate", json={}).status_code == 503
        assert service.client.get("/models").status_code == 200
        stack.close()
        time.sleep(0.5)
        assert others.get("/models").status_code == 200
    assert f"at most {LIMIT} connections" in service.interrupt()


def test_a_soft_limit_is_raised(start: Start) -> None:
    service = start(f"-Sn {FILES}")
    with ExitStack() as stack:
        opened(stack, service, MANY)
        assert httpx.get(f"{service.url}/models").status_code == 200
    assert "connections" not in service.interrupt()


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (256, 256, 256, 64),
        (256, 4096, 4096, 4096 - open_files.RESERVED),
        (1024, 10**9, 65_536, 65_536 - open_files.RESERVED),
        (10**6, 10**9, 10**6, 10**6 - open_files.RESERVED),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, -1, 65_536 - open_files.RESERVED),
    ],
)
def test_what_is_left_for_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int, connections: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    open_files.raise_limit()
    assert limits[-1] == (raised, hard)
    assert open_files.most_connections() == connections


@pytest.fixture
def port(
    settings: Settings,
    registry: Registry,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[int]:
    """The port of a server for one connection, and a surplus one."""
    monkeypatch.setattr("app.main.most_connections", lambda: 1)
    monkeypatch.setattr("app.server.connection_limit.MOST_SURPLUS", 1)
    app = create_app(settings.model_copy(update={"allowed_hosts": ""}))
    with listening(app) as port:
        yield port
    disconnect(app)


def test_a_surplus_connection_is_for_one_answer(port: int) -> None:
    with connect(port) as first, connect(port) as surplus, connect(port) as further:
        assert received(further, WAIT_S) == (b"", True)
        surplus.sendall(LIVE + LIVE)
        answer, closed = received(surplus, WAIT_S)
        assert (statuses(answer), closed) == ([200], True)
        assert b"connection: close\r\n" in answer
        first.sendall(LIVE)
        answer, closed = received(first, 0.3)
        assert (statuses(answer), closed) == ([200], False)


def test_the_fast_path_is_not_for_it(port: int) -> None:
    with connect(port) as first, connect(port) as surplus:
        surplus.sendall(GENERATE)
        answer, closed = received(surplus, WAIT_S)
        assert (statuses(answer), closed) == ([503], True)
        assert b"retry-after: " in answer
        first.sendall(GENERATE)
        assert statuses(received(first, WAIT_S)[0]) == [200]
    with connect(port) as later:
        later.sendall(GENERATE)
        assert statuses(received(later, WAIT_S)[0]) == [200]


def test_nothing_is_waited_for_on_it(port: int) -> None:
    with connect(port), connect(port) as surplus:
        began = time.monotonic()
        assert received(surplus, 5.0) == (b"", True)
        assert time.monotonic() - began < 4.0
