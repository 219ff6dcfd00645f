"""What killed uploads leave in the object store: swept when it is old, and not before."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.app.exposition import series
from tests.models.pictures import noise, saved, shop, zipped
from tests.service import Service
from worker.datasets import leftovers
from worker.datasets.leftovers import UNFINISHED, UNRECORDED, sweep_leftovers
from worker.registry.bundled_models import add_sample_dataset
from worker.schemas.jobs import new_id, now
from worker.storage import Storage

WRITE = """
import sys
from worker.storage import Storage
Storage.open(sys.argv[1]).put("datasets/ds_x/images.zip", sys.stdin.buffer)
"""
LONG_AGO = time.time() - timedelta(days=10).total_seconds()


def test_a_write_whose_process_was_killed_is_removed_once_it_is_old(
    storage: Storage, storage_url: str
) -> None:
    folder = Path(storage_url.removeprefix("file://"), "datasets", "ds_x")
    command = [sys.executable, "-c", WRITE, storage_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(2**22))  # and the rest never comes
        process.stdin.flush()
        while not (folder.is_dir() and [file for file in folder.iterdir() if file.stat().st_size]):
            time.sleep(0.01)
        process.kill()
    [left] = folder.iterdir()
    assert left.name.startswith("images.zip#")
    assert storage.sweep_unfinished(UNFINISHED) == 0
    os.utime(left, (LONG_AGO, LONG_AGO))
    (folder / "a user's own#file").write_text("kept")
    os.utime(folder / "a user's own#file", (LONG_AGO, LONG_AGO))
    assert storage.sweep_unfinished(UNFINISHED) == 1
    assert [file.name for file in folder.iterdir()] == ["a user's own#file"]


def test_a_data_set_without_a_record_is_deleted_after_three_days(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_sample_dataset(storage)
    kept = list(storage.keys("datasets"))
    storage.put(f"datasets/{new_id('ds')}/images.zip", b"of a killed import")
    storage.put("datasets/backup/images.zip", b"foreign")
    for age, expected in ((UNRECORDED - timedelta(hours=1), 1), (UNRECORDED, 0)):
        later = now() + age
        monkeypatch.setattr(leftovers, "now", lambda later=later: later)
        sweep_leftovers(storage)
        left = set(storage.keys("datasets")) - {*kept, "datasets/backup/images.zip"}
        assert len(left) == expected
    assert set(storage.keys("datasets")) == {*kept, "datasets/backup/images.zip"}


@contextmanager
def running(settings: dict[str, str]) -> Iterator[Service]:
    service = Service(settings)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.close()


def test_an_upload_whose_service_is_killed_is_swept_logged_and_counted(
    storage_url: str, redis_url: str, redis: Redis
) -> None:
    settings = {"VITRINE_REDIS_URL": redis_url, "VITRINE_STORAGE_URL": storage_url}
    datasets = Path(storage_url.removeprefix("file://"), "datasets")
    large = {f"b/{n}.png": saved(noise(n, (600, 600))) for n in range(30)}
    with running(settings) as service, ThreadPoolExecutor(1) as pool:
        files = {"file": zipped({**shop(a=10), **large})}
        answer = pool.submit(service.client.post, "/datasets", files=files)
        while not (datasets.is_dir() and any(datasets.glob("*/*"))):
            assert not answer.done(), answer.result().text
        service.process.kill()
        with pytest.raises(httpx.TransportError):
            answer.result()
    [left] = datasets.iterdir()
    assert not (left / "dataset.json").exists()
    for file in left.iterdir():
        os.utime(file, (LONG_AGO, LONG_AGO))
    left.rename(left.with_name(f"ds_{'0' * 10}{left.name[-10:]}"))  # as if it had begun long ago

    redis.flushall()  # the next process looks at once, not only once an hour
    with running(settings) as service:
        deadline = time.monotonic() + 20
        while swept(service) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [file for file in datasets.rglob("*") if file.is_file()] == []
        assert "removed leftovers of kind" in service.read_errors()


def swept(service: Service) -> float:
    counted = series(service.client.get("/metrics").text)
    return sum(number for (name, _), number in counted.items() if "swept_leftovers_total" in name)
