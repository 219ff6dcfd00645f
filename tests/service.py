"""The service in a process of its own, as an operator starts it, and an end-to-end walk."""

import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image

from worker.registry.bundled_models import SAMPLE_ARCHIVE

TRAIN_S = 90.0
STOP_S = 120.0  # its parts have 5, 20 and 20 s, on a free machine


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number: int = probe.getsockname()[1]
    return number


class Service:
    """`python -m app` with these settings and no others, and a client of it.

    `checkout` is a folder with the code of another commit, to compare it with this one. `limits`
    are options of the shell's `ulimit`.
    """

    def __init__(
        self,
        settings: dict[str, str],
        headers: dict[str, str] | None = None,
        checkout: Path | None = None,
        limits: str = "",
    ) -> None:
        port = free_port()
        self.checkout = checkout
        self.limits = limits
        outside = {name: v for name, v in os.environ.items() if not name.startswith("VITRINE_")}
        self.environment = outside | {"VITRINE_PORT": str(port)} | settings
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30, headers=headers)
        # Not a pipe: nothing reads it while the service runs, and a full one would block that.
        self.errors = tempfile.TemporaryFile("a+")  # noqa: SIM115 # until the service is closed
        self.process = self.spawn()

    def spawn(self) -> "subprocess.Popen[str]":
        """Start the process."""
        limited = ["sh", "-c", f'ulimit {self.limits} && exec "$@"', "sh"] if self.limits else []
        return subprocess.Popen(
            [*limited, sys.executable, "-m", "app"],
            env=self.environment,
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def wait_until_ready(self) -> str:
        """Wait for the ready message; returns what the service has printed."""
        assert self.process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(self.process.stdout.readline())
            assert lines[-1], self.read_errors()
        return "".join(lines)

    def interrupt(self) -> str:
        """Stop the service as Ctrl-C does; asserts a clean end and returns what it has logged."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=STOP_S)
        errors = self.read_errors()
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        return errors

    def read_errors(self) -> str:
        """What the service has written to stderr so far."""
        self.errors.seek(0)
        return self.errors.read()

    def close(self) -> None:
        """Kill the process if it still runs."""
        self.client.close()
        self.process.kill()
        # Not `communicate`: a Valkey server that SIGKILL has left behind holds the pipe open.
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process.wait()
        self.errors.close()


def walk(client: httpx.Client) -> None:
    """Upload a zip, train on it, poll to the end, generate from the new model, decode."""
    with SAMPLE_ARCHIVE.open("rb") as archive:
        uploaded = client.post("/datasets", files={"file": archive}, data={"name": "walk"})
    assert uploaded.status_code == 201, uploaded.text
    assert uploaded.json()["categories"] == ["dress", "hat", "pants", "shoes"]

    job = _train(client, uploaded.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    result = job["result"]
    assert isinstance(result, dict)
    links, files = result.pop("links"), result.pop("files")
    assert set(links) == {"version", "samples", "weights", *files}
    assert "curves.png" in files
    assert client.get(links["curves.png"]).headers["content-type"] == "image/png"
    assert isinstance(result.pop("verdict"), str)
    assert 0 < result.pop("score") < 100
    assert result == {
        "model": "clothes",
        "version": 1,
        "alias": "production",
        "promoted": True,
        "promotion_refused": None,
    }
    assert client.get(links["version"]).json()["origin"] == job["id"]
    assert client.get(links["samples"]).headers["content-type"] == "image/png"

    wanted = {"model": "clothes@production", "category": "hat", "n": 2, "seed": 5}
    answer = client.post("/generate", json=wanted).json()
    assert [item["category"] for item in answer["data"]] == ["hat", "hat"]
    for item in answer["data"]:
        image = Image.open(BytesIO(base64.b64decode(item["b64_json"])))
        image.load()
        assert (image.format, image.size, image.mode) == ("PNG", (28, 28), "RGB")


def _train(client: httpx.Client, dataset: str) -> dict[str, object]:
    body = {
        "dataset": dataset,
        "model": "clothes",
        "resolution": 28,
        "preset": "fast",
        "batch_size": 16,
        "max_images": 640,
        "promote": "production",
        "promote_force": True,  # after seconds of training, it has hardly learnt to vary
    }
    submitted = client.post("/jobs/train", json=body)
    assert submitted.status_code == 202, submitted.text
    url = submitted.headers["Location"]
    seen: list[str] = []
    with client.stream("GET", f"{url}/events", timeout=TRAIN_S) as events:
        for line in events.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                seen.append(value)
    # The stream was live and ended with the job.
    assert {"status", "progress", "metric", "sample"} <= set(seen)
    job: dict[str, object] = client.get(url).json()
    return job
