"""python -m benchmarks.request_cost: overhead of metrics, access log and rate limits per request.

The ASGI application is called in one process and without a network, so that microseconds are
visible, for a path that has no route. The log goes to /dev/null. The measure is this process's
processor time, which other load does not add to; Redis's is not included.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from starlette.types import Message, Scope

from app.main import create_app
from app.middleware.access_log import AccessLog
from benchmarks.measure import interleaved, report
from worker import logs
from worker.embedded_valkey import EmbeddedValkey
from worker.settings import Settings

Side = Callable[[], float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of each side in each round")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedValkey(Path(folder) / "valkey") as valkey,
        Path(os.devnull).open("w") as nowhere,
        asyncio.Runner() as runner,
    ):
        access = logging.getLogger("app.access")
        access.setLevel(logging.INFO)
        access.addHandler(logs.handler("json", nowhere))
        settings = Settings(redis_url=valkey.url, storage_url=f"file://{folder}/objects")
        limited = settings.model_copy(update={"rate_limit": "99999/second"})

        def side(app: FastAPI) -> Side:
            return lambda: runner.run(_microseconds(app, options.requests))

        unlogged = _without(create_app(settings), AccessLog)
        sides = {
            "counted, logged, limited": side(create_app(limited)),
            "counted and logged": side(create_app(settings)),
            "neither": side(unlogged),
        }
        report("one request", "us of processor time", interleaved(sides, options.rounds))


def _without(app: FastAPI, middleware: object) -> FastAPI:
    app.user_middleware = [each for each in app.user_middleware if each.cls is not middleware]
    return app


async def _microseconds(app: FastAPI, requests: int) -> float:
    """Mean processor time in microseconds of one of `requests` sequential requests."""
    began = time.process_time()
    for _ in range(requests):
        await app(_scope(), _receive, _send)
    return 1e6 * (time.process_time() - began) / requests


def _scope() -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/nowhere",
        "raw_path": b"/nowhere",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    assert message.get("status", 404) == 404


if __name__ == "__main__":
    main()
