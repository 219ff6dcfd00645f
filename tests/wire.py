"""Raw sockets to a real server, without an HTTP client."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from app.server.connection import FastPathProtocol

DEADLINE_S = 10.0
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """Serve an application as `python -m app` does; yields the port."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=FastPathProtocol,
            ws="none",
            port=0,
            lifespan="on" if isinstance(app, FastAPI) else "off",
            timeout_graceful_shutdown=5,
            log_level="critical",
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def status(wire: socket.socket) -> int:
    """Status of the next answer, which is read to its end; it may arrive in pieces."""
    with HTTPResponse(wire) as answer:
        answer.begin()
        answer.read()
        return answer.status


def received(wire: socket.socket, quiet_s: float) -> tuple[bytes, bool]:
    """The bytes that arrive until `quiet_s` without any, and whether the connection is closed."""
    answer = b""
    try:
        while piece := wire.recv(65536):
            answer += piece
            wire.settimeout(quiet_s)
    except TimeoutError:
        return answer, False
    except ConnectionError:
        pass
    return answer, True


def statuses(answer: bytes) -> list[int]:
    """The status of each answer in `answer`."""
    return [int(code) for code in STATUS_LINE.findall(answer)]
