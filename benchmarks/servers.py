"""Servers of the same model, each in a process of its own: ours, and its peers."""

import base64
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.peers.common import PORT, WEIGHTS
from models.checkpoint import Model, load_model
from models.images import encode, to_pixels
from models.sample import sample
from tests.processes import children
from tests.service import Service, free_port
from worker.model_versions import NewVersion
from worker.registry import Registry
from worker.storage import Storage

ROOT = Path(__file__).parents[1]
PEERS = {  # the module of each
    "fastapi": "plain_fastapi",
    "litserve": "lit_serve",
    "bentoml": "bento_ml",
    "ray": "ray_serve",
}
RESTLESS = ("litserve",)  # takes a third of a core when idle, and is stopped at those times
FRAIL = ("ray",)  # takes a seventh, and dies when it is stopped: it is started for each reading
NAME = "serving"  # of the model
CATEGORIES = tuple(f"kind-{number}" for number in range(10))
SETTINGS = {
    "VITRINE_LOG_LEVEL": "warning",
    "VITRINE_MAX_QUEUE": "256",  # for 128 clients none is to be turned away
    "VITRINE_DEFAULT_MODEL": NAME,
}
START_S = 180.0
STOP_S = 20.0
SETTLING, SETTLE_S = 4, 120.0  # requests, and what each may take
LAST_WORDS = 2000  # of a peer that does not start, in characters
CHECK_SEED = 2**52 + 1


class DoesNotServe(RuntimeError):
    """A server did not start, or answered something else than the model's image."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    url: str
    pid: int

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let a server run that is kept from running at other times."""
        if self.name in RESTLESS:
            _signal(family(self.pid), signal.SIGCONT)
        try:
            yield
        finally:
            if self.name in RESTLESS:
                _signal(family(self.pid), signal.SIGSTOP)

    def settle(self) -> None:
        """Wait for an end of the requests that a client has left behind when it went.

        Behind them stand a few of our own; each may come to another worker.
        """
        for _ in range(SETTLING):
            httpx.post(f"{self.url}/generate", json=_body(), timeout=SETTLE_S).raise_for_status()


@contextmanager
def vitrine(
    folder: Path, weights: Path, name: str = "vitrine", checkout: Path | None = None
) -> Iterator[Server]:
    """Our service in embedded mode, as `python -m app` starts it in an empty folder.

    `checkout` is the folder of another commit's code; None is this one.
    """
    data = folder / name
    model = load_model(weights.read_bytes())
    _register(Registry(Storage.open(f"file://{data / 'objects'}")), model, weights.read_bytes())
    service = Service(SETTINGS | {"VITRINE_DATA_DIR": str(data)}, checkout=checkout)
    try:
        service.wait_until_ready()
        yield Server(name, service.url, service.process.pid)
    finally:
        try:
            service.interrupt()
        finally:
            service.close()


def _register(registry: Registry, model: Model, weights: bytes) -> None:
    config = model.generator.config
    registry.register(
        NewVersion(
            name=NAME,
            weights=weights,
            samples_png=encode(sample(model.generator, [0], [0])[0], "png"),
            origin="shipped",
            card={
                "categories": list(model.categories),
                "capabilities": {"resolution": config.resolution, "channels": config.channels},
                "architecture": asdict(config),
                "training": {},
                "data": {},
                "metrics": {},
            },
        )
    )


@contextmanager
def peer(name: str, python: str, weights: Path) -> Iterator[Server]:
    """One of `PEERS`, by an interpreter that has its packages and ours."""
    port = free_port()
    own = {PORT: str(port), WEIGHTS: str(weights), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.peers.{PEERS[name]}"],
            env=os.environ | own,
            cwd=ROOT,
            stdout=words,
            stderr=words,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends it
        )
        server = Server(name, f"http://127.0.0.1:{port}", process.pid)
        try:
            if not _answers(server, process):
                words.seek(0)
                raise DoesNotServe(f"{name} did not start\n{words.read()[-LAST_WORDS:]}")
            with server.awake():
                pass  # asleep from now on, if it is a restless one
            yield server
        finally:
            _end(process)


def _answers(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.post(f"{server.url}/generate", json=_body(), timeout=30).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    everybody = family(process.pid)
    process.send_signal(signal.SIGTERM)
    _signal(everybody, signal.SIGCONT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    _signal(everybody, signal.SIGKILL)
    process.wait()


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(each for child in children(pid) for each in family(child))]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _body() -> dict[str, str | int]:
    return {"category": CATEGORIES[7], "seed": CHECK_SEED}


def check(server: Server, model: Model) -> None:
    """Ask for one image, and compare it with what the model makes of that seed.

    Raises:
        DoesNotServe: it is not that image.
    """
    answer = httpx.post(f"{server.url}/generate", json=_body(), timeout=30)
    if answer.status_code != 200:
        raise DoesNotServe(f"{server.name} answered {answer.status_code}: {answer.text[:200]}")
    content = base64.b64decode(answer.json()["data"][0]["b64_json"])
    image = Image.open(BytesIO(content))
    expected = sample(model.generator, [CHECK_SEED], [7])[0]
    pixels = to_pixels(image)
    same = image.format == "PNG" and pixels.shape == expected.shape
    if not same or np.abs(pixels.astype(int) - expected.astype(int)).max() > 1:
        raise DoesNotServe(f"{server.name} answered with another image")
