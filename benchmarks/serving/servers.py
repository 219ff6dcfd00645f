"""Server processes of the serving benchmark, all with the same model: ours and its peers."""

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

from benchmarks.serving.peers.common import PORT, WEIGHTS
from models.checkpoint import Model, load_model
from models.imaging.encoding import encode
from models.imaging.pixels import to_pixels
from models.inference.sample import sample
from tests.processes import children
from tests.service import Service, free_port
from worker.registry.model_versions import NewVersion
from worker.registry.registry import Registry
from worker.storage import Storage

ROOT = Path(__file__).parents[2]
PEERS = {  # the module of each
    "fastapi": "plain_fastapi",
    "litserve": "lit_serve",
    "bentoml": "bento_ml",
    "ray": "ray_serve",
}
PAUSED_WHEN_IDLE = (
    "litserve",
)  # takes a third of a core when idle, so it is paused by SIGSTOP then
STARTED_PER_READING = (
    "ray",
)  # takes a seventh, and dies when paused, so it is started for each reading
NAME = "serving"  # of the model
CATEGORIES = tuple(f"kind-{number}" for number in range(10))
SETTINGS = {
    "VITRINE_LOG_LEVEL": "warning",
    "VITRINE_MAX_QUEUE": "256",  # no request of 128 clients may be refused
    "VITRINE_DEFAULT_MODEL": NAME,
}
START_S = 180.0
STOP_S = 20.0
SETTLING, SETTLE_S = 4, 120.0  # requests, and what each may take
OUTPUT_TAIL = 2000  # characters shown of the output of a peer that does not start
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
    def resumed(self) -> Iterator[None]:
        """Resume a server in `PAUSED_WHEN_IDLE` for the block, and pause it again afterwards."""
        if self.name in PAUSED_WHEN_IDLE:
            _signal(process_tree(self.pid), signal.SIGCONT)
        try:
            yield
        finally:
            if self.name in PAUSED_WHEN_IDLE:
                _signal(process_tree(self.pid), signal.SIGSTOP)

    def settle(self) -> None:
        """Wait for the requests that a disconnected client has left in the server's queue.

        Sends a few requests, which wait behind them; each may reach another worker.
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
    """Start one of `PEERS`, with an interpreter that has its packages and ours."""
    port = free_port()
    own = {PORT: str(port), WEIGHTS: str(weights), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.serving.peers.{PEERS[name]}"],
            env=os.environ | own,
            cwd=ROOT,
            stdout=words,
            stderr=words,
            start_new_session=True,  # so that Ctrl-C reaches the benchmark only, which ends it
        )
        server = Server(name, f"http://127.0.0.1:{port}", process.pid)
        try:
            if not _answers(server, process):
                words.seek(0)
                raise DoesNotServe(f"{name} did not start\n{words.read()[-OUTPUT_TAIL:]}")
            with server.resumed():
                pass  # pauses it, if it is in PAUSED_WHEN_IDLE
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
    everybody = process_tree(process.pid)
    process.send_signal(signal.SIGTERM)
    _signal(everybody, signal.SIGCONT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    _signal(everybody, signal.SIGKILL)
    process.wait()


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    return [pid, *(each for child in children(pid) for each in process_tree(child))]


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _body() -> dict[str, str | int]:
    return {"category": CATEGORIES[7], "seed": CHECK_SEED}


def check(server: Server, model: Model) -> None:
    """Request one image, and compare it with the model's own image of that seed.

    Raises:
        DoesNotServe: the request failed, or the image is another one.
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
