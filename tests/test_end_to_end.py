"""The whole way over real HTTP: `python -m app`, a zip of photos in, product images out."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from worker.shipped import SAMPLE_ARCHIVE, SAMPLE_DATASET

START_S = 60.0
TRAIN_S = 90.0


class Service:
    """An embedded Vitrine in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")
        } | {"VITRINE_DATA_DIR": str(folder), "VITRINE_PORT": str(port)}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.process = self.spawn()

    def spawn(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "app"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> str:
        """What the service says when it is ready."""
        assert self.process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(self.process.stdout.readline())
            assert lines[-1], self.process.communicate()
        return "".join(lines)

    def interrupt(self) -> None:
        """Ctrl-C; returns when the service has ended, cleanly."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors


@pytest.fixture(scope="module")
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number: int = probe.getsockname()[1]
    return number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(folder: Path, port: int) -> Iterator[Service]:
    running = Service(folder, port)
    try:
        said = running.wait_until_ready()
        assert f"http://127.0.0.1:{port}/docs" in said
        yield running
    finally:
        running.client.close()
        running.process.kill()
        running.process.communicate()


def train(client: httpx.Client, dataset: str) -> dict[str, object]:
    body = {
        "dataset": dataset,
        "model": "clothes",
        "resolution": 28,
        "preset": "fast",
        "batch_size": 16,
        "max_images": 640,
        "promote": "production",
    }
    submitted = client.post("/jobs/train", json=body)
    assert submitted.status_code == 202, submitted.text
    deadline = time.monotonic() + TRAIN_S
    while time.monotonic() < deadline:
        job: dict[str, object] = client.get(submitted.headers["Location"]).json()
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(0.3)
    raise AssertionError(f"the training took too long: {job}")


def test_photos_in_images_out(service: Service) -> None:
    client = service.client
    assert client.post("/generate", json={}).status_code == 200

    with SAMPLE_ARCHIVE.open("rb") as archive:
        uploaded = client.post("/datasets", files={"file": archive}, data={"name": "walk"})
    assert uploaded.status_code == 201, uploaded.text
    assert uploaded.json()["categories"] == ["dress", "hat", "pants", "shoes"]

    job = train(client, uploaded.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["result"] == {"model": "clothes", "version": 1, "alias": "production"}

    answer = client.post(
        "/generate", json={"model": "clothes@production", "category": "hat", "n": 2, "seed": 5}
    ).json()
    for item in answer["data"]:
        image = Image.open(BytesIO(base64.b64decode(item["b64_json"])))
        assert (image.format, image.size, image.mode) == ("PNG", (28, 28), "RGB")


def test_a_second_instance_and_a_busy_port_each_get_one_line(service: Service) -> None:
    for change, expected in (
        ({}, f"cannot listen on 127.0.0.1:{service.client.base_url.port}"),
        ({"VITRINE_PORT": "0"}, "VITRINE_PORT"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "app"],
            env=service.environment | change,
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        assert ended.returncode == 1
        assert expected in ended.stderr
        assert ended.stderr.count("\n") == 1

    with socket.create_server(("127.0.0.1", 0)) as probe:
        other_port = str(probe.getsockname()[1])
    ended = subprocess.run(
        [sys.executable, "-m", "app"],
        env=service.environment | {"VITRINE_PORT": other_port},
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert ended.returncode == 1
    assert "another Vitrine" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_ends_everything_and_a_second_start_finds_it_again(
    service: Service, folder: Path
) -> None:
    before = service.client.post("/generate", json={"seed": 3}).json()["data"]
    datasets = service.client.get("/datasets").json()["data"]
    service.interrupt()
    with pytest.raises(httpx.ConnectError):
        service.client.get("/health/live")
    left = subprocess.run(
        ["pgrep", "-f", f"{folder}/valkey"], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""

    service.process = service.spawn()
    service.wait_until_ready()
    assert service.client.post("/generate", json={"seed": 3}).json()["data"] == before
    again = service.client.get("/datasets").json()["data"]
    assert again == datasets
    assert SAMPLE_DATASET in [dataset["id"] for dataset in again]
    service.interrupt()
