"""Embedded mode over real HTTP: `python -m app`, a zip of photos in, product images out."""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.service import Service, free_port, walk
from worker.registry.bundled_models import SAMPLE_ARCHIVE, SAMPLE_DATASET

START_S = 60.0
AGAIN_S = 10.0  # after which the service works again


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


def ended_jobs(service: Service) -> list[dict[str, object]]:
    """All jobs, once they have ended."""
    deadline = time.monotonic() + START_S
    while True:
        jobs: list[dict[str, object]] = service.client.get("/jobs").json()["data"]
        if all(job["finished_at"] for job in jobs):
            return jobs
        assert time.monotonic() < deadline
        time.sleep(0.2)


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


def test_an_upload_becomes_a_data_set_while_its_client_does_other_things(service: Service) -> None:
    files, later = {"file": SAMPLE_ARCHIVE.read_bytes()}, {"Prefer": "respond-async"}
    answer = service.client.post("/datasets", files=files, headers=later)
    assert answer.status_code == 202
    ended_jobs(service)
    job = service.client.get(answer.headers["Location"]).json()
    assert job["status"] == "succeeded", job["error"]
    dataset = service.client.get(job["result"]["links"]["dataset"]).json()
    assert dataset["categories"] == ["dress", "hat", "pants", "shoes"]

    training = {"dataset": dataset["id"], "model": "later", "resolution": 28, "preset": "fast"}
    submitted = service.client.post("/jobs/train", json=training)
    assert submitted.status_code == 202, submitted.text
    assert service.client.post(submitted.json()["links"]["cancel"]).status_code == 202


def test_a_killed_valkey_is_started_again_and_the_service_works_again(
    service: Service, folder: Path
) -> None:
    jobs = service.client.get("/jobs").json()["data"]
    os.kill(int((folder / "valkey/valkey.lock").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + AGAIN_S
    while service.client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert service.client.get("/jobs").json()["data"] == jobs
    assert service.client.post("/jobs/generate", json={"n": 1}).status_code == 202


def test_a_second_instance_and_a_busy_port_each_get_one_line(service: Service) -> None:
    assert f"cannot listen on 127.0.0.1:{service.client.base_url.port}" in complaint(service)
    assert "another Vitrine" in complaint(service, VITRINE_PORT=str(free_port()))
    assert "VITRINE_PORT" in complaint(service, VITRINE_PORT="0")


def test_ctrl_c_ends_everything_and_a_second_start_finds_it_again(
    service: Service, folder: Path
) -> None:
    before = service.client.post("/generate", json={"seed": 3}).json()["data"]
    datasets = service.client.get("/datasets").json()["data"]
    jobs = ended_jobs(service)
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
    assert {
        job["type"]: job["status"] for job in jobs if job["status"] != "cancelled"
    } == dict.fromkeys(("train", "import", "generate"), "succeeded")
    service.interrupt()
