"""`python -m app` with several API processes: one socket, one ready message, no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.exposition import value
from tests.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The embedded service with two API processes."""
    settings = {"VITRINE_API_PROCESSES": "2", "VITRINE_DATA_DIR": str(tmp_path / "data")}
    running = Service(settings)
    yield running
    running.close()


def children(parent: int) -> set[int]:
    """Pids of the live child processes of a process."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return {int(line) for line in found.stdout.split() if lives(int(line))}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def api_processes(service: Service) -> set[int]:
    return {
        pid
        for pid in children(service.process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def eventually(condition: Callable[[], bool], what: str, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def answers(service: Service) -> bool:
    """Whether the service is ready, over a new connection: a kept one belongs to one process."""
    try:
        return httpx.get(f"{service.url}/health/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def asked_for_models(service: Service) -> set[float]:
    """Counts of `GET /models` in several scrapes, each over a new connection."""
    texts = [httpx.get(f"{service.url}/metrics", timeout=10).text for _ in range(10)]
    labels = {"method": "GET", "route": "/models", "status": "200"}
    return {value(text, "vitrine_http_requests_total", **labels) for text in texts}


def test_processes_share_the_work_and_come_back_when_killed(service: Service) -> None:
    assert service.wait_until_ready().count("Vitrine is ready") == 1
    first, second = api_processes(service)
    for frozen in (first, second):  # the other one answers alone
        os.kill(frozen, signal.SIGSTOP)
        assert all(answers(service) for _ in range(5))
        assert httpx.get(f"{service.url}/models", timeout=10).status_code == 200
        os.kill(frozen, signal.SIGCONT)
    assert service.client.post("/generate", json={}).status_code == 200

    assert asked_for_models(service) == {2}, "each process counts for itself"

    os.kill(first, signal.SIGKILL)
    assert all(answers(service) for _ in range(5))
    eventually(lambda: len(api_processes(service)) == 2, "the process was not started again")
    (third,) = api_processes(service) - {second}
    os.kill(second, signal.SIGSTOP)
    assert asked_for_models(service) == {2}, "the counts died with the process"
    assert answers(service), "the new process does not serve"
    os.kill(second, signal.SIGCONT)

    everything = children(service.process.pid)
    assert {second, third} < everything
    service.interrupt()
    eventually(lambda: not any(map(lives, everything)), "something was left behind", 5)


def test_processes_end_with_a_supervisor_that_is_killed(
    redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    # A killed supervisor cannot delete its temporary files; they stay in this folder.
    service = two_processes(redis_url, storage_url, TMPDIR=str(tmp_path))
    service.wait_until_ready()
    left = api_processes(service)
    assert len(left) == 2
    service.process.kill()
    eventually(lambda: not any(map(lives, left)), "API processes outlived their supervisor")
    service.close()


def test_processes_that_cannot_start_end_the_service(
    redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    service = two_processes(redis_url, storage_url, PYTHONPATH=str(broken(tmp_path)))
    output, _ = service.process.communicate(timeout=60)
    errors = service.read_errors()
    service.close()
    assert service.process.returncode == 1
    assert "an API process did not start" in errors
    assert "Vitrine is ready" not in output


def two_processes(redis_url: str, storage_url: str, **environment: str) -> Service:
    """The API alone, in two processes."""
    backing = {"VITRINE_REDIS_URL": redis_url, "VITRINE_STORAGE_URL": storage_url}
    return Service({"VITRINE_API_PROCESSES": "2", **backing, **environment})


def broken(folder: Path) -> Path:
    """A folder that makes multiprocessing's children fail as they start."""
    code = 'import sys\nif "spawn_main" in " ".join(sys.orig_argv): sys.exit("broken")\n'
    (folder / "sitecustomize.py").write_text(code)
    return folder
