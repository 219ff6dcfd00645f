"""A job's `max_seconds` covers everything from its claim to its end, and so do percent and ETA."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

import pytest

from tests.worker.conftest import StartWorker
from worker.attempt.attempt import Attempt
from worker.datasets.datasets import DatasetRecord
from worker.queue.queue import JobQueue
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord, now
from worker.schemas.requests import NasJob, TrainJob
from worker.storage import Storage
from worker.training.training import run_training

ENDLESS = 50_000_000  # images
SLACK = 1.25  # times the limit, on a machine that other tests share
GIVEN_UP_S = 180.0


class Seen(NamedTuple):
    """A job's record, and how long it had been running when it was read."""

    seconds: float
    record: JobRecord


def watched(jobs: JobQueue, job_id: str) -> list[Seen]:
    """Each different state of a running job that was seen, up to its end."""
    seen: list[Seen] = []
    deadline = time.monotonic() + GIVEN_UP_S
    while not seen or not seen[-1].record.terminal:
        assert time.monotonic() < deadline, seen[-1:]
        record = jobs.fetch(job_id)
        ends = record.finished_at or now()
        if record.started_at is not None and (not seen or record != seen[-1].record):
            seen.append(Seen((ends - record.started_at).total_seconds(), record))
        time.sleep(0.05)
    return seen


def check(seen: Sequence[Seen], limit_s: float, stages: Sequence[str]) -> None:
    """The limit holds; percent only grows and is 100 at the end alone; the ETA is of all stages."""
    *running, (took_s, ended) = seen
    assert ended.status == "succeeded", ended.error
    assert took_s < SLACK * limit_s
    percents = [record.progress.percent for _, record in running]
    assert percents == sorted(percents)
    assert percents[-1] < 100 == ended.progress.percent
    assert ended.progress.eta_s == 0
    shown = [record.stage for _, record in running if record.stage is not None]
    assert [stage for stage in dict.fromkeys(shown) if stage in stages] == list(stages)
    for seconds, record in running:
        if record.stage is not None:
            assert record.progress.eta_s is not None
            assert seconds + record.progress.eta_s == pytest.approx(took_s, abs=0.4 * limit_s)


def test_a_training_ends_within_its_time_with_all_that_belongs_to_it(
    jobs: JobQueue, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    job = TrainJob(
        dataset=dataset.id,
        model="tiny",
        resolution=32,
        preset="fast",
        max_images=ENDLESS,
        max_seconds=20,
    )
    seen = watched(jobs, jobs.submit("train", job).id)
    stages = ["training", "fitting the classifier", "preparing the judges", "evaluating"]
    check(seen, 20, [*stages, "registering"])


def test_a_training_without_time_takes_a_step_and_the_card_says_what_was_asked(
    jobs: JobQueue, storage: Storage, tiny_job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.attempt.progress_reporter.REPORT_EVERY_S", 0.0)
    job = jobs.submit("train", tiny_job.model_copy(update={"max_seconds": 5}))
    record = jobs.ledger.claim(job.id, "delivery")
    assert record is not None
    late = record.model_copy(update={"moved_at": record.moved_at - timedelta(seconds=10)})
    run_training(Attempt(jobs.ledger, late), jobs, lambda: False)
    assert jobs.fetch(job.id).status == "succeeded"
    card = Registry(storage).resolve("tiny")
    assert card.training["max_seconds"] == 5
    assert 1 <= int(str(card.training["steps"])) < 5  # of 20


def test_a_search_ends_within_its_time_with_all_that_belongs_to_it(
    jobs: JobQueue, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    job = NasJob(
        dataset=dataset.id,
        model="found",
        resolution=28,
        preset="fast",
        max_seconds=30,
        finalists=1,
        final_seeds=1,
    )
    seen = watched(jobs, jobs.submit("nas", job).id)
    stages = ["searching", "preparing the judges", "retraining", "fitting the classifier"]
    check(seen, 30, [*stages, "evaluating", "registering"])
