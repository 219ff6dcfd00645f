"""Embedded mode over real HTTP: `python -m app`, a zip of photos in, product images out."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.service import Service, free_port, walk
from worker.registry.bundled_models import SAMPLE_DATASET

START_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    running = Service({"VITRINE_DATA_DIR": str(folder)})
    try:
        said = running.wait_until_ready()
        assert f"{running.url}/docs" in said
        yield running
    finally:
        running.close()


def complaint(service: Service, **changes: str) -> str:
    """The error with which another instance refuses to start."""
    ended = subprocess.run(
        [sys.executable, "-m", "app"],
        env=service.environment | changes,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_the_shipped_model_answers_at_once(service: Service) -> None:
    assert service.client.post("/generate", json={}).status_code == 200
    wanted = {"category": "Sneaker", "n": 8, "seed": 7, "output_format": "webp"}
    first, second = (service.client.post("/generate", json=wanted).json() for _ in range(2))
    assert first["data"] == second["data"]
    files = [base64.b64decode(item["b64_json"]) for item in first["data"]]
    assert len(set(files)) == 8
    for content in files:
        image = Image.open(BytesIO(content))
        image.load()
        assert (image.format, image.size) == ("WEBP", (32, 32))


def test_photos_in_images_out(service: Service) -> None:
    walk(service.client)


def test_a_second_instance_and_a_busy_port_each_get_one_line(service: Service) -> None:
    assert f"cannot listen on 127.0.0.1:{service.client.base_url.port}" in complaint(service)
    assert "another Vitrine" in complaint(service, VITRINE_PORT=str(free_port()))
    assert "VITRINE_PORT" in complaint(service, VITRINE_PORT="0")


def test_ctrl_c_ends_everything_and_a_second_start_finds_it_again(
    service: Service, folder: Path
) -> None:
    before = service.client.post("/generate", json={"seed": 3}).json()["data"]
    datasets = service.client.get("/datasets").json()["data"]
    jobs = service.client.get("/jobs").json()["data"]
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
    assert service.client.get("/jobs").json()["data"] == jobs
    assert [job["status"] for job in jobs] == ["succeeded"]
    service.interrupt()
