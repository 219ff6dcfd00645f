"""python -m benchmarks.start: start-up time of the service, and latency of the smallest job.

Starts the embedded service in an empty folder and again in the same one, and submits the smallest
train job: `accepted to claimed` includes the start of a new process and its import of torch.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from benchmarks.measure import machine
from tests.processes import resident_bytes
from worker.registry.bundled_models import SAMPLE_DATASET

ROUNDS = 5
SHIPPED = ("fashion-mnist", "clothing")
JOB = {
    "dataset": SAMPLE_DATASET,
    "model": "start",
    "resolution": 28,
    "preset": "fast",
    "batch_size": 16,
    "max_images": 16,
}
LONG_JOB = JOB | {"batch_size": 48, "max_images": 1_000_000}
Seconds = dict[str, list[float]]


def main() -> None:
    """Measure and print medians."""
    measured: Seconds = {}
    memory: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            _serve(Path(folder), "first start to ready", measured, memory)
            _serve(Path(folder), "second start to ready", measured, memory)
    print(f"\nStarting, seconds, median of {ROUNDS}; {machine()}")
    for name, values in measured.items():
        print(f"  {name:<28} {median(values):6.2f}  ({min(values):.2f}-{max(values):.2f})")
    span = f"({min(memory):.0f}-{max(memory):.0f})"
    print(f"  the API's memory with {' and '.join(SHIPPED)}, MiB: {median(memory):.0f}  {span}")


def _serve(folder: Path, name: str, measured: Seconds, memory: list[float]) -> None:
    """Run the service once; adds to `measured` (seconds) and `memory` (MiB)."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {"VITRINE_DATA_DIR": str(folder), "VITRINE_PORT": str(port)}
    environment = os.environ | own | {"VITRINE_LOG_LEVEL": "warning"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "Ctrl-C" not in process.stdout.readline():
        assert process.poll() is None, "the service did not start"
    measured.setdefault(name, []).append(time.perf_counter() - started)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for model in SHIPPED:
            client.post("/generate", json={"model": model, "n": 64}).raise_for_status()
        memory.append(resident_bytes(process.pid) / 2**20)
        _requests(client, measured)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def _requests(client: httpx.Client, measured: Seconds) -> None:
    for name in ("a POST /generate", "next POST /generate"):
        started = time.perf_counter()
        client.post("/generate", json={}).raise_for_status()
        measured.setdefault(name, []).append(time.perf_counter() - started)
    started = time.perf_counter()
    location = client.post("/jobs/train", json=JOB).raise_for_status().headers["Location"]
    while (job := client.get(location).json())["started_at"] is None:
        time.sleep(0.02)
    measured.setdefault("job accepted to claimed", []).append(time.perf_counter() - started)
    while job["status"] in ("queued", "running"):
        time.sleep(0.02)
        job = client.get(location).json()
    assert job["status"] == "succeeded", job["error"]
    measured.setdefault("smallest job, whole", []).append(time.perf_counter() - started)
    _during_training(client, measured)


def _during_training(client: httpx.Client, measured: Seconds) -> None:
    """Time requests while the worker trains on the same cores."""
    location = client.post("/jobs/train", json=LONG_JOB).raise_for_status().headers["Location"]
    while client.get(location).json()["stage"] != "training":
        time.sleep(0.02)
    for _ in range(10):
        started = time.perf_counter()
        client.post("/generate", json={}).raise_for_status()
        measured.setdefault("POST /generate in training", []).append(time.perf_counter() - started)
        time.sleep(0.2)
    client.post(f"{location}/cancel").raise_for_status()


if __name__ == "__main__":
    main()
