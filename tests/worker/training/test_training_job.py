"""The train job, run by real worker processes that are stopped and killed."""

import json
import os
import signal
import time
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pydantic import JsonValue

from models.checkpoint import save_model
from models.classification.photo_classifier import load_photo_classifier
from models.networks.gan import GanConfig, Generator
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for, work_horse_of
from worker.datasets.dataset_classifiers import DatasetClassifiers
from worker.ledger.artifacts import JobFiles
from worker.ledger.checkpoints import Checkpoints
from worker.queue.queue import JobQueue
from worker.registry.model_versions import NewVersion
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import TrainJob
from worker.storage import Storage
from worker.training.registration import EVENTS


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def training(record: JobRecord) -> bool:
    return record.stage == "training"


def test_a_job_ends_with_a_registered_model_and_its_files(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    wanted = {"promote": "production", "promote_force": True, "loss": "relativistic", "seed": 7}
    job = jobs.submit("train", tiny_job.model_copy(update=wanted))
    record = wait_for(jobs, job.id, succeeded)

    registry = Registry(storage)
    card = registry.resolve("tiny@production")
    assert record.result is not None
    result = dict(record.result)
    report = json.loads(card.model_dump_json())["metrics"]["evaluation"]
    assert result.pop("verdict") == report["verdict"]
    assert result.pop("score") == round(report["score"], 1)
    assert set(report["protocol"]["judges"]) == {"lite2", "u2netp"}
    assert result == {
        "model": "tiny",
        "version": 1,
        "files": card.files,
        "alias": "production",
        "promoted": True,
        "promotion_refused": None,
    }
    assert (record.progress.percent, record.progress.step) == (100, 20)
    assert card.categories == ["dress", "hat", "pants", "shoes"]
    assert card.training["images_seen"] == 320
    assert (card.training["loss"], card.training["seed"]) == ("relativistic", 7)
    assert card.origin == job.id
    assert Image.open(BytesIO(registry.samples(card))).width > 500

    lines = JobFiles(storage, job.id).read("metrics.jsonl").decode().splitlines()
    assert json.loads(lines[-1])["step"] <= 20
    names = list(JobFiles(storage, job.id).keys())
    assert any(name.startswith("samples-") for name in names)
    deadline = time.monotonic() + 30  # they go after the job has succeeded
    while Checkpoints(storage, job.id).newest() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_job_is_judged_by_photos_that_it_never_saw(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    reports, records = [], []
    for seed in (0, 1):
        job = jobs.submit("train", tiny_job.model_copy(update={"seed": seed}))
        records.append(wait_for(jobs, job.id, succeeded))
        card = Registry(storage).versions("tiny")[-1]
        reports.append(json.loads(json.dumps(card.metrics["evaluation"])))
    # What chooses while it trains is no judge of the report.
    assert {"kid_lite1", "recall", "diversity", "collapsed"} <= set(records[0].metrics)
    for report in reports:
        # 64 photos: 2 of each category are held out.
        assert report["protocol"]["held_out_images"] == 8
        assert report["protocol"]["training_images"] == 56
        assert 0 <= report["model"]["cas"] <= 1
        assert report["memorisation"]["lite2"]["flagged"] in (True, False)
    # The numbers of a data set's jobs compare, and its photos are looked at once.
    assert reports[0]["protocol"] == reports[1]["protocol"]
    assert reports[0]["floor"] == reports[1]["floor"]
    seen = list(storage.keys(f"datasets/{tiny_job.dataset}/features"))
    assert [key.rsplit("/")[-1].split("-")[0] for key in seen] == ["lite1", "lite2", "u2netp"]
    assert list(storage.keys(f"datasets/{tiny_job.dataset}/extractors")) == []
    assert "stage_percent" not in records[0].metrics
    assert reports[0]["model"] != reports[1]["model"]

    assert card.files == [
        "classifier.safetensors",
        "curves.png",
        EVENTS,
        "metrics.jsonl",
        "neighbours.png",
    ]
    for name in card.files:
        stored = Registry(storage).file(card, name)
        assert stored == JobFiles(storage, records[1].id).read(name)


def test_a_data_set_has_one_classifier_which_its_versions_keep(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    for seed in (0, 1):
        job = jobs.submit("train", tiny_job.model_copy(update={"seed": seed}))
        wait_for(jobs, job.id, succeeded)
    registry = Registry(storage)
    files = [registry.file(card, "classifier.safetensors") for card in registry.versions("tiny")]
    assert files[0] == files[1] == DatasetClassifiers(storage, tiny_job.dataset).read(28)
    classifier = load_photo_classifier(files[0])
    assert classifier.categories == ("dress", "hat", "pants", "shoes")
    # Fitted on the photos that the job trains on, tested on those that it holds out.
    report = classifier.report
    assert (report.photos, report.held_out_photos, report.resolution) == (56, 8, 28)
    assert report.accuracy is not None
    assert report.accuracy > 0.7
    for card in registry.versions("tiny"):
        assert card.capabilities["classify"] is True
        assert card.capabilities["min_category_probability"] is True
        assert card.metrics["classifier"] == asdict(report)


def test_a_damaged_classifier_of_a_data_set_is_fitted_again(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    stored = DatasetClassifiers(storage, tiny_job.dataset)
    stored.store(28, b"damaged")
    start_worker()
    wait_for(jobs, jobs.submit("train", tiny_job).id, succeeded)
    data = stored.read(28)
    assert data is not None
    assert load_photo_classifier(data).report.photos == 56


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    longer = tiny_job.model_copy(update={"max_images": 3200})
    worker = start_worker()
    undisturbed = jobs.submit("train", longer)
    wait_for(jobs, undisturbed.id, succeeded)

    killed = jobs.submit("train", longer)
    wait_for(jobs, killed.id, lambda _: Checkpoints(storage, killed.id).newest() is not None)
    os.kill(work_horse_of(worker), signal.SIGKILL)
    record = wait_for(jobs, killed.id, succeeded)

    assert (record.attempt, record.crashes) == (2, 1)
    first, second = Registry(storage).versions("tiny")
    assert (first.origin, second.origin) == (undisturbed.id, killed.id)
    assert first.weights_sha256 == second.weights_sha256
    metrics = JobFiles(storage, killed.id).read("metrics.jsonl").decode().splitlines()
    steps = [json.loads(line)["step"] for line in metrics]
    assert steps == sorted(set(steps))


def test_a_killed_worker_takes_its_work_horse_along_and_another_goes_on(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 3200}))
    wait_for(jobs, job.id, lambda _: Checkpoints(storage, job.id).newest() is not None)
    horse = work_horse_of(worker)
    worker.kill()
    worker.wait()
    time.sleep(0.5)
    assert not Path(f"/proc/{horse}/exe").exists()
    jobs.leases.drop(str(jobs.fetch(job.id).held_by))  # instead of waiting until it runs out

    start_worker()
    assert wait_for(jobs, job.id, succeeded).attempt == 2


def test_a_job_that_kills_its_process_each_time_is_given_up(
    jobs: JobQueue, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 1_000_000}))
    for attempt in (1, 2, 3):
        wait_for(jobs, job.id, lambda r, a=attempt: training(r) and r.attempt == a)  # type: ignore[misc] # mypy cannot type a lambda's default
        os.kill(work_horse_of(worker), signal.SIGKILL)
    record = wait_for(jobs, job.id, lambda r: r.status == "failed")
    assert record.error is not None
    assert record.error.code == "worker_lost"


def test_a_step_may_take_longer_than_a_lease_but_not_for_ever(
    jobs: JobQueue, tiny_job: TrainJob, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that a step takes some seconds
    slow = {"preset": "best", "resolution": 128, "batch_size": 40, "max_images": 4000}
    monkeypatch.setenv("VITRINE_LEASE_S", "3")
    monkeypatch.setenv("VITRINE_MAX_ATTEMPTS", "1")
    worker = start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update=slow))
    wait_for(jobs, job.id, lambda r: training(r) and r.progress.step > 0)
    worker.kill()
    jobs.cancel(job.id)

    monkeypatch.setenv("VITRINE_STEP_S", "0.5")
    start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update=slow))
    record = wait_for(jobs, job.id, lambda r: r.status == "failed")
    assert record.error is not None
    assert record.error.code == "worker_lost"


def test_cancel_acts_within_five_seconds(
    jobs: JobQueue, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 1_000_000}))
    wait_for(jobs, job.id, training)
    asked = time.monotonic()
    assert jobs.cancel(job.id).status == "cancelling"
    record = wait_for(jobs, job.id, lambda r: r.status == "cancelled")
    assert time.monotonic() - asked < 5
    assert record.finished_at is not None


def test_a_stopped_worker_hands_its_job_back_without_a_crash(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 3200}))
    wait_for(jobs, job.id, training)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    waiting = jobs.fetch(job.id)
    assert (waiting.status, waiting.attempt, waiting.crashes) == ("queued", 2, 0)
    assert Checkpoints(storage, job.id).newest() is not None

    start_worker()
    assert wait_for(jobs, job.id, succeeded).crashes == 0


def test_a_data_set_that_is_gone_fails_the_job_with_its_code(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    for key in storage.keys(f"datasets/{tiny_job.dataset}"):
        storage.delete(key)
    job = jobs.submit("train", tiny_job)
    start_worker()
    record = wait_for(jobs, job.id, lambda r: r.status == "failed")
    assert record.error is not None
    assert record.error.code == "dataset_not_found"


def test_the_supervising_process_never_loads_torch(
    jobs: JobQueue, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = jobs.submit("train", tiny_job.model_copy(update={"max_images": 1_000_000}))
    wait_for(jobs, job.id, training)
    assert "libtorch" in Path(f"/proc/{work_horse_of(worker)}/maps").read_text()
    assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text()


def test_a_refused_promotion_is_told_and_can_be_forced(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, start_worker: StartWorker
) -> None:
    start_worker()
    registry = Registry(storage)
    # The alias serves a category that the photos do not show.
    card: dict[str, JsonValue] = {
        **{name: {} for name in ("architecture", "training", "data", "metrics")},
        "categories": ["dress", "scarf"],
        "capabilities": {"channels": 3},
    }
    weights = save_model(Generator(GanConfig(resolution=28, channels=3, categories=2)), ("d", "s"))
    registry.register(
        NewVersion(name="tiny", weights=weights, samples_png=b"", origin="x", card=card)
    )
    registry.point("tiny", "production", 1)
    asked = tiny_job.model_copy(update={"promote": "production"})
    refused = wait_for(jobs, jobs.submit("train", asked).id, succeeded).result
    assert refused is not None
    assert (refused["alias"], refused["promoted"]) == (None, False)
    assert refused["promotion_refused"] == "it lacks categories that version 1 serves: scarf"
    assert registry.resolve("tiny@production").version == 1

    forced = asked.model_copy(update={"promote_force": True})
    result = wait_for(jobs, jobs.submit("train", forced).id, succeeded).result
    assert result is not None
    assert (result["alias"], result["promoted"]) == ("production", True)
    assert registry.resolve("tiny@production").version == 3
