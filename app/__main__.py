"""python -m app: the whole service on this machine, or the API alone.

Without VITRINE_REDIS_URL and VITRINE_STORAGE_URL it runs in embedded mode: it starts a Valkey
server, keeps objects in a folder, and starts a worker process for each queue. With both set it runs
the API alone, as in production.
"""

import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from app.auth import check_exposure, parse_keys
from app.main import create_app
from app.middleware.hosts import allowed_hosts
from app.processes import APP, STARTUP_TIMEOUT_S, serve_in_processes
from app.server.connection import FastPathProtocol
from app.server.open_files import raise_limit
from worker import logs
from worker.embedded import (
    DataFolderBusy,
    lock_data_folder,
)
from worker.embedded_valkey import EmbeddedValkey, ValkeyFailed, kept_running
from worker.queue.slots import WorkerSlots
from worker.registry.bundled_models import add_sample_dataset, register_models
from worker.registry.registry import Registry
from worker.settings import Settings, explain, parse_arguments
from worker.storage import Storage, StorageError

READY = """
Vitrine is ready at {url}
  docs    {url}/docs
  try     curl -X POST {url}/generate -H 'Content-Type: application/json'{key} \\
               -H 'Accept: image/png' -d '{{"category": "Sneaker"}}' -o sneaker.png
  stop    Ctrl-C
"""
GRACE_S = 5


class Server(uvicorn.Server):
    """uvicorn server that prints its URL and an example request once it is ready."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving, then print `ready`."""
        await super().startup(sockets)
        if self.started:
            print(self.ready, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parse_arguments(__doc__, arguments)
    signal.signal(signal.SIGTERM, _end)
    try:
        settings = Settings()
        keys = parse_keys(settings.api_key_hashes)
        check_exposure(settings.host, keys)
        allowed_hosts(settings.allowed_hosts, settings.host, keyless=not keys)
    except ValidationError as error:
        sys.exit(explain(error))
    except ValueError as error:
        sys.exit(str(error))
    logs.configure(settings)
    raise_limit()
    try:
        with _listen(settings) as listener, _backing(settings) as complete:
            serve(complete, listener)
    except (DataFolderBusy, ValkeyFailed, StorageError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


def serve(settings: Settings, listener: socket.socket) -> None:
    """Run the API over the Redis and storage that `settings` name, until a signal."""
    url = f"http://{settings.host}:{settings.port}"
    key = " -H 'Authorization: Bearer <key>'" if settings.api_key_hashes else ""
    ready = READY.format(url=url, key=key)
    if settings.api_processes == 1:
        Server(_config(settings, create_app(settings)), ready).run(sockets=[listener])
        return
    started = serve_in_processes(
        settings, _config(settings, APP), listener, lambda: print(ready, flush=True)
    )
    if not started:
        sys.exit("an API process did not start; its last words are above")


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        loop="uvloop",  # also sets TCP_NODELAY; asyncio does not on a given socket
        http=FastPathProtocol,
        ws="none",
        workers=settings.api_processes,
        log_level=settings.log_level if settings.log_level == "debug" else "warning",
        log_config=None,  # `worker.logs` formats uvicorn's lines too
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=settings.forwarded_allow_ips,
        access_log=False,  # `app.middleware.access_log` writes it
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=STARTUP_TIMEOUT_S,
        server_header=False,
    )


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything else is started; exits if the port is taken."""
    try:
        listener = socket.create_server((settings.host, settings.port))
    except OSError as error:
        sys.exit(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror});"
            " stop what uses the port, or set VITRINE_PORT to another one"
        )
    with listener:
        yield listener


@contextmanager
def _backing(settings: Settings) -> Iterator[Settings]:
    """Settings with Redis and storage: the given ones, or those of embedded mode."""
    if not settings.embedded:
        assert settings.storage_url is not None
        register_models(Registry(Storage.open(settings.storage_url)))
        yield settings
        return
    folder = settings.data_dir.absolute()
    with (
        lock_data_folder(folder),
        EmbeddedValkey(folder / "valkey") as valkey,
        kept_running(valkey),
    ):
        storage_url = f"file://{folder / 'objects'}"
        storage = Storage.open(storage_url)
        register_models(Registry(storage))
        add_sample_dataset(storage)
        urls = {"VITRINE_REDIS_URL": valkey.url, "VITRINE_STORAGE_URL": storage_url}
        slots = WorkerSlots(settings.served_queues, urls)
        try:
            yield settings.model_copy(update={"redis_url": valkey.url, "storage_url": storage_url})
        finally:
            slots.stop()


def _end(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
