"""Fuzzing campaign: malformed uploads to one service, and checks of its answers and leftovers."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.fuzz import archives
from tests.fuzz.requests import form, upload
from tests.processes import imports, open_temporary_files, resident_bytes
from tests.service import Service
from worker.registry.bundled_models import SAMPLE_DATASET

ANSWERS = (201, 400, 413, 415, 422)
MAX_GROWTH_BYTES = 50 * 2**20
CLIENTS = 2
SAMPLE_EVERY_S = 0.05
LEFT_WITHIN_S = 10.0


@dataclass
class Outcome:
    """Results of a campaign."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)  # by kind and status
    codes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    growth_bytes: int = 0  # the largest growth of the API process
    seconds: float = 0.0


@dataclass(frozen=True)
class Target:
    """A service in a process of its own, and the folders it may write to."""

    service: Service
    objects: Path
    temporary: Path

    @property
    def pid(self) -> int:
        """Process id of the API."""
        return self.service.process.pid

    @property
    def port(self) -> int:
        """Port of the API."""
        return int(self.service.url.rsplit(":", 1)[1])

    def send(self, body: bytes, content_type: bytes) -> httpx.Response:
        """Send one upload."""
        headers = {"Content-Type": content_type.decode()}
        return self.service.client.post("/datasets", content=body, headers=headers, timeout=120)

    def left(self) -> list[str]:
        """Files that should not exist when no upload is in progress."""
        datasets = self.objects / "datasets"
        found = [str(path) for path in self.temporary.iterdir()]
        found += [
            str(path)
            for folder in (datasets, self.objects / "uploads", self.objects / "idempotency")
            for path in folder.rglob("*")
            if path.is_file() and SAMPLE_DATASET not in path.parts
        ]
        return found + ["an open temporary file"] * open_temporary_files(self.pid)


@contextmanager
def target(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Target]:
    """A fresh service with these settings, which must end cleanly."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    data = folder / "data"
    folders = {"VITRINE_DATA_DIR": str(data), "TMPDIR": str(temporary)}
    service = Service(folders | (settings or {}))
    try:
        service.wait_until_ready()
        yield Target(service, data / "objects", temporary)
        service.interrupt()
    finally:
        service.close()


def run(aim: Target, seed: int, numbers: range) -> Outcome:
    """Send the inputs with these numbers, a few at a time, after one valid upload."""
    outcome, over = Outcome(), threading.Event()
    _delete(aim, aim.send(form(archives.sound()), b"multipart/form-data; boundary=fuzz"))
    before = resident_bytes(aim.pid)

    def watch() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            growth = resident_bytes(aim.pid) - before
            outcome.growth_bytes = max(outcome.growth_bytes, growth)

    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        pool.submit(watch)
        try:
            for _ in pool.map(partial(_attempt, aim, outcome, seed), numbers):
                pass
        finally:
            over.set()
    outcome.seconds = time.monotonic() - started
    outcome.complaints += _remains(aim)
    if outcome.growth_bytes > MAX_GROWTH_BYTES:
        outcome.complaints.append(f"the API grew by {outcome.growth_bytes / 2**20:.0f} MiB")
    return outcome


def _attempt(aim: Target, outcome: Outcome, seed: int, number: int) -> None:
    sent = upload(seed, number)
    try:
        response = aim.send(sent.body, sent.content_type)
    except httpx.TransportError as error:  # timed out, or broken off
        outcome.complaints.append(f"input {number} ({sent.kind}): no answer: {error!r}")
        return
    outcome.answers[sent.kind, response.status_code] += 1
    outcome.complaints += [f"input {number} ({sent.kind}): {c}" for c in _faults(response)]
    if response.status_code == 201:
        _delete(aim, response)
    else:
        outcome.codes[response.json()["code"]] += 1


def _faults(response: httpx.Response) -> list[str]:
    faults = []
    if response.status_code not in ANSWERS:
        faults.append(f"status {response.status_code}: {response.text[:200]}")
    kind = "application/json" if response.status_code == 201 else "application/problem+json"
    if response.headers["content-type"] != kind:
        faults.append(f"answered with {response.headers['content-type']}")
    return faults


def _delete(aim: Target, response: httpx.Response) -> None:
    assert response.status_code == 201, response.text
    aim.service.client.delete(response.headers["location"]).raise_for_status()


def _remains(aim: Target) -> list[str]:
    deadline = time.monotonic() + LEFT_WITHIN_S
    while (left := aim.left()) or imports(aim.pid):
        if time.monotonic() > deadline:
            return [f"left behind: {', '.join(left[:5]) or 'a process'}"]
        time.sleep(0.1)
    return []
