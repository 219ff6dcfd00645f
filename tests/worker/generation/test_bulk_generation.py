"""The generate job, run by real worker processes."""

import hashlib
import io
import json
import os
import signal
import time
import zipfile

import pytest
from PIL import Image

from models.checkpoint import load_model
from models.imaging.encoding import Provenance, encode
from models.inference.sample import sample
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for, work_horse_of
from worker.attempt.attempt import Attempt
from worker.generation.bulk_generation import bulk_request_of, make_files
from worker.ledger.artifacts import JobFiles
from worker.ledger.job_counters import read_job_counters
from worker.queue.queue import JobQueue
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.schemas.jobs import JobProgress, JobRecord
from worker.schemas.requests import GenerateJob
from worker.storage import Storage

MANY = 3000
SUMMARY = {"generated.zip", "generated.jsonl", "generated.png"}


@pytest.fixture(autouse=True)
def registry(storage: Storage) -> Registry:
    """Holds the shipped models."""
    registry = Registry(storage)
    register_models(registry)
    return registry


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def digests(storage: Storage, job_id: str) -> dict[str, str]:
    keys = JobFiles(storage, job_id).keys()
    return {name: hashlib.sha256(storage.read(key)).hexdigest() for name, key in keys.items()}


def test_a_job_ends_with_files_a_zip_a_manifest_and_a_sheet(
    jobs: JobQueue, storage: Storage, registry: Registry, start_worker: StartWorker
) -> None:
    start_worker("generate")
    wanted = {"sneaker": 5, "Bag": 3}
    job = GenerateJob(
        model="fashion-mnist:1", categories=wanted, seed=40, truncation=0.9, output_format="webp"
    )
    record = wait_for(jobs, jobs.submit("generate", job).id, succeeded)

    assert record.result == {"model": "fashion-mnist", "version": 1, "generated": 8}
    assert record.progress == JobProgress(step=8, total=8, percent=100, eta_s=0)
    assert read_job_counters(jobs.leases.redis).images == {"fashion-mnist": 8}
    stored = digests(storage, record.id)
    names = [f"generated-{number:05d}.webp" for number in range(8)]
    assert set(stored) == {*names, *SUMMARY}
    # What POST /generate would have answered for these seeds.
    card = registry.card("fashion-mnist", 1)
    model = load_model(registry.weights(card))
    (pixels,) = sample(model.generator, [46], [card.categories.index("Bag")], 0.9)
    origin = Provenance(model="fashion-mnist", version=1, seed=46)
    expected = encode(pixels, "webp", provenance=origin)
    assert stored["generated-00006.webp"] == hashlib.sha256(expected).hexdigest()

    files = JobFiles(storage, record.id)
    lines = [json.loads(line) for line in files.read("generated.jsonl").splitlines()]
    assert [line["category"] for line in lines] == ["Sneaker"] * 5 + ["Bag"] * 3
    assert [line["seed"] for line in lines] == list(range(40, 48))
    with zipfile.ZipFile(io.BytesIO(files.read("generated.zip"))) as archive:
        assert archive.namelist() == [*names, "generated.jsonl"]
        for line in lines:
            content = archive.read(line["file"])
            assert hashlib.sha256(content).hexdigest() == line["sha256"] == stored[line["file"]]
    sheet = Image.open(io.BytesIO(files.read("generated.png")))
    assert sheet.height > 2 * 64  # a row for each category
    assert sheet.width > 5 * 64


def test_a_killed_job_goes_on_where_it_was_and_ends_with_the_same_files(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    worker = start_worker("generate")
    job = GenerateJob(model="fashion-mnist:1", n=MANY, seed=7)
    undisturbed = wait_for(jobs, jobs.submit("generate", job).id, succeeded)
    killed = jobs.submit("generate", job)
    files = JobFiles(storage, killed.id)
    wait_for(jobs, killed.id, lambda _: len(files.keys()) > MANY // 10)
    os.kill(work_horse_of(worker), signal.SIGKILL)
    record = wait_for(jobs, killed.id, succeeded)

    assert record.attempt == 2
    first, second = (len(list(storage.keys(f"{files.folder}/00000{n}"))) for n in (1, 2))
    assert MANY // 10 < first < MANY
    assert second == MANY - first + len(SUMMARY)
    assert digests(storage, killed.id) == digests(storage, undisturbed.id)
    for ended in (undisturbed, record):
        assert ended.progress == JobProgress(step=MANY, total=MANY, percent=100, eta_s=0)
    counted = read_job_counters(jobs.leases.redis).images["fashion-mnist"]
    # Each image once, but for some on their way to storage when the process was killed.
    assert abs(counted - 2 * MANY) < MANY // 2


def test_a_job_shows_that_it_lives_while_its_zip_is_stored(
    jobs: JobQueue, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = jobs.submit("generate", GenerateJob(model="fashion-mnist:1", n=2, seed=7))
    record = jobs.ledger.claim(submitted.id, "me")
    assert record is not None
    attempt = Attempt(jobs.ledger, record)
    put = Storage.put

    def slow(storage: Storage, key: str, data: bytes, media_type: str | None = None) -> None:
        time.sleep(1.0 if key.endswith(".zip") else 0.0)
        put(storage, key, data, media_type)

    monkeypatch.setattr(Storage, "put", slow)
    monkeypatch.setattr("worker.generation.bulk_generation.SIGN_EVERY_S", 0.1)
    assert isinstance(record.request, GenerateJob)
    card = registry.card("fashion-mnist", 1)
    shares = list(make_files(attempt, card, bulk_request_of(record.request, card)))
    assert len(shares) > 2 + 5
    assert shares == sorted(shares)
    assert set(JobFiles(jobs.ledger.storage, record.id).keys()) > SUMMARY


def test_a_job_is_cancelled_in_the_middle(
    jobs: JobQueue, storage: Storage, start_worker: StartWorker
) -> None:
    start_worker("generate")
    job = jobs.submit("generate", GenerateJob(model="fashion-mnist:1", n=100_000, seed=7))
    wait_for(jobs, job.id, lambda record: record.progress.step > 0)
    assert jobs.cancel(job.id).status == "cancelling"
    wait_for(jobs, job.id, lambda record: record.status == "cancelled")
    assert not SUMMARY & set(JobFiles(storage, job.id).keys())


def test_a_version_that_is_gone_fails_the_job_with_a_code(
    jobs: JobQueue, start_worker: StartWorker
) -> None:
    start_worker("generate")
    job = jobs.submit("generate", GenerateJob(model="fashion-mnist:9", n=1, seed=7))
    record = wait_for(jobs, job.id, lambda record: record.status == "failed")
    assert record.error is not None
    assert record.error.code == "model_not_found"
