"""Aborted uploads and failing decoders: the API still serves, and no files are left behind."""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image

from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.models.pictures import saved, shop, zipped
from tests.processes import imports, next_import, open_temporary_files
from tests.wire import listening
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.storage import Storage

HUGE = saved(Image.new("RGB", (7000, 7000), "red"))  # few bytes, 147 MB of pixels
SLOW = zipped({**shop(a=10), **{f"b/{n}.png": HUGE for n in range(10)}}).getvalue()
SHORT = zipped({**shop(a=10), "b/0.png": HUGE, "b/1.png": HUGE}).getvalue()
DATASETS = ("datasets", "uploads", "idempotency")


def left(storage: Storage) -> list[str]:
    """Objects of data sets and of uploads."""
    return [key for folder in DATASETS for key in storage.keys(folder)]


def wait_until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_decoder_that_dies_is_the_uploads_fault_and_the_api_serves_on(
    client: TestClient, storage: Storage
) -> None:
    before = open_temporary_files()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/datasets", files={"file": SLOW})
        os.kill(next_import(), signal.SIGSEGV)
        assert_problem(answer.result(), 422, "invalid_dataset")
    assert (left(storage), imports()) == ([], set())
    assert open_temporary_files() == before
    files = {"file": SAMPLE_ARCHIVE.read_bytes()}
    assert client.post("/datasets", files=files).status_code == 201


@pytest.mark.parametrize("bound", [{"max_import_s": 0.5}, {"max_import_bytes": 320 * 2**20}])
def test_decoding_beyond_its_bounds_is_a_422(
    serve: Serve, storage: Storage, bound: dict[str, float]
) -> None:
    body = assert_problem(
        serve(**bound).post("/datasets", files={"file": SLOW}), 422, "invalid_dataset"
    )
    assert "memory and time" in body["detail"]
    assert left(storage) == []


def test_50_a_full_disk_is_a_507_and_leaves_nothing(
    client: TestClient, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> IO[bytes]:
        return open("/dev/full", "w+b", buffering=0)

    small = {"file": SAMPLE_ARCHIVE.read_bytes()}  # reaches the disk when it is decoded
    large = {"file": SAMPLE_ARCHIVE.read_bytes() + bytes(2**21)}  # while it arrives
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    for files in (small, large):
        assert_problem(client.post("/datasets", files=files), 507, "storage_full")
    monkeypatch.undo()
    assert left(storage) == []
    assert client.post("/datasets", files=small).status_code == 201


def test_51_a_client_that_goes_away_leaves_nothing(client: TestClient, storage: Storage) -> None:
    assert isinstance(client.app, FastAPI)
    before = open_temporary_files()
    start = (
        b"POST /datasets HTTP/1.1\r\nHost: testserver\r\nContent-Length: 9000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
    )
    with listening(client.app) as port:
        with socket.create_connection(("127.0.0.1", port), 5) as wire:
            wire.sendall(start + SAMPLE_ARCHIVE.read_bytes() + bytes(3_000_000))
            wait_until(lambda: open_temporary_files() > before)
        wait_until(lambda: open_temporary_files() == before)
    assert left(storage) == []


def test_a_client_that_goes_away_ends_the_decoding_of_its_upload(
    client: TestClient, storage: Storage
) -> None:
    assert isinstance(client.app, FastAPI)
    before = open_temporary_files()
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
    body = part + SLOW + b"\r\n--b--\r\n"
    start = (
        f"POST /datasets HTTP/1.1\r\nHost: testserver\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with listening(client.app) as port:
        with socket.create_connection(("127.0.0.1", port), 5) as wire:
            wire.sendall(start.encode() + body)
            next_import()
        wait_until(lambda: imports() == set(), within_s=2)
        wait_until(lambda: open_temporary_files() == before)
    assert left(storage) == []


def test_uploads_beyond_those_that_may_wait_are_429(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.datasets.importing.WAITING", 0)
    client = serve(max_imports=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/datasets", files={"file": SLOW})
        running = next_import()
        files = {"file": SAMPLE_ARCHIVE.read_bytes()}
        assert_problem(client.post("/datasets", files=files), 429, "too_many_uploads")
        assert_problem(client.post("/datasets", files={"file": b"no zip"}), 422, "not_a_zip")
        os.kill(running, signal.SIGKILL)
        first.result()


def test_a_key_whose_first_request_is_still_in_flight_is_a_409(
    client: TestClient, storage: Storage
) -> None:
    def post(content: bytes) -> Response:
        return client.post(
            "/datasets", files={"file": content}, headers={"Idempotency-Key": "upload-1"}
        )

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, SHORT)
        next_import()
        again = post(SHORT)
        assert_problem(again, 409, "idempotency_in_flight")
        assert int(again.headers["retry-after"]) > 0
        assert_problem(post(SAMPLE_ARCHIVE.read_bytes()), 422, "idempotency_key_reused")
        assert len(imports()) == 1
    assert first.result().status_code == 201
    assert (post(SHORT).status_code, post(SHORT).json()) == (201, first.result().json())
    assert len(storage.folders("datasets")) == 1


def test_a_refused_first_request_lets_its_key_be_tried_again(client: TestClient) -> None:
    for _ in range(2):
        response = client.post(
            "/datasets", files={"file": b"no zip"}, headers={"Idempotency-Key": "upload-2"}
        )
        assert_problem(response, 422, "not_a_zip")
