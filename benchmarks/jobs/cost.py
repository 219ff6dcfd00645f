"""python -m benchmarks.jobs.cost: overhead of the ledger on a training, and latency of a submit.

Trainings inside and outside a job take turns, on the same photos and for as many images. Inside a
job, once a second, they report progress, renew the lease and check for cancellation, on a Valkey
server and an object store in a folder. Submits go over HTTP to the API in its own process, one
after the other.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from benchmarks.measure import interleaved, machine, report
from benchmarks.photos import photo_parser, split_photos
from models.data.datasets import Dataset
from models.training.presets import preset_config, preset_recipe
from models.training.state import initial_state
from models.training.train import train
from tests.service import Service
from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.embedded_valkey import EmbeddedValkey
from worker.queue.queue import JobQueue, open_queue
from worker.registry.bundled_models import SAMPLE_DATASET, add_sample_dataset
from worker.schemas.jobs import JobProgress
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage

WARM_UP = 20  # submits


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both, and print medians."""
    parser = photo_parser(__doc__, preset="balanced")
    parser.add_argument("--images", type=int, default=20_000, help="of each training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--submits", type=int, default=500)
    options = parser.parse_args(arguments)
    training, _ = split_photos(options)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedValkey(Path(folder) / "valkey") as valkey,
    ):
        url = f"file://{folder}/objects"
        settings = Settings(redis_url=valkey.url, storage_url=url)
        storage = Storage.open(url)
        add_sample_dataset(storage)
        jobs = open_queue(settings, storage, timeout_s=1)
        sides = {
            "inside a job": lambda: _speed(options, training, jobs),
            "alone": lambda: _speed(options, training, None),
        }
        report("training", "images/s", interleaved(sides, options.rounds))
        print(f"  one report takes {1000 * _report_s(jobs):.2f} ms of each second")
        _submits(settings, options.submits)
        jobs.leases.redis.close()
        jobs.connection.close()


def _claim(jobs: JobQueue) -> Attempt:
    record = jobs.submit("train", TrainJob(dataset=SAMPLE_DATASET, model="cost"))
    running = jobs.ledger.claim(record.id, f"{record.id}-1")
    assert running is not None
    return Attempt(jobs.ledger, running)


def _speed(options: argparse.Namespace, dataset: Dataset, jobs: JobQueue | None) -> float:
    gan = preset_config(
        options.preset, options.resolution, dataset.images.shape[1], len(dataset.categories)
    )
    recipe = preset_recipe(options.resolution, len(dataset.labels), max_images=options.images)
    state = initial_state(gan, recipe)
    reporter = None if jobs is None else ProgressReporter(_claim(jobs), lambda: False)
    began = time.monotonic()
    for progress in train(state, dataset):
        if reporter is not None and reporter.is_due:
            reporter.report("training", JobProgress(step=progress.step), progress.metrics())
    return state.images / (time.monotonic() - began)


def _report_s(jobs: JobQueue) -> float:
    reporter, times = ProgressReporter(_claim(jobs), lambda: False), []
    for step in range(200):
        began = time.perf_counter()
        reporter.report("training", JobProgress(step=step), {"loss_generator": 0.5})
        times.append(time.perf_counter() - began)
    return median(times)


def _submits(settings: Settings, count: int) -> None:
    environment = {
        "VITRINE_REDIS_URL": str(settings.redis_url),
        "VITRINE_STORAGE_URL": str(settings.storage_url),
        "VITRINE_MAX_QUEUED_JOBS": "1000000",
    }
    service = Service(environment)
    service.wait_until_ready()
    body, times = {"dataset": SAMPLE_DATASET, "model": "cost"}, []
    for number in range(WARM_UP + count):
        headers = {"Idempotency-Key": f"submit-{number}"}
        began = time.perf_counter()
        answer = service.client.post("/jobs/train", json=body, headers=headers)
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 202, answer.text
    service.close()
    times = times[WARM_UP:]
    print(
        f"\nsubmit with an Idempotency-Key, over HTTP: p50 {median(times):.1f} ms,"
        f" p99 {quantiles(times, n=100)[98]:.1f} ms of {count}; {machine()}"
    )


if __name__ == "__main__":
    main()
