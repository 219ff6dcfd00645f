"""The nas job, run by one and by several real worker processes, some of which are killed."""

import json
import os
import signal
import subprocess
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for, work_horse_of
from worker.datasets.datasets import DatasetRecord
from worker.ledger.artifacts import JobFiles, search_folder
from worker.queue.queue import JobQueue
from worker.registry.model_versions import ModelCard
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import (
    GenerateAfterwards,
    NasJob,
    Objective,
    TrainJob,
)
from worker.schemas.training_options import FromJob
from worker.storage import ObjectNotFound, Storage


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def tiny_search(dataset: DatasetRecord, **changes: object) -> NasJob:
    """A search of some seconds."""
    tiny: dict[str, object] = {
        "dataset": dataset.id,
        "model": "found",
        "resolution": 28,
        "preset": "fast",
        "max_trials": 4,
        "max_seconds": 40,
        "finalists": 1,
        "final_seeds": 1,
    }
    return NasJob.model_validate({**tiny, **changes})


def trials_of(storage: Storage, job_id: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(JobFiles(storage, job_id).read("trials.json"))
    except ObjectNotFound:
        return []
    trials: list[dict[str, Any]] = content["trials"]
    return trials


def assert_nothing_is_left_of(jobs: JobQueue, storage: Storage, job_id: str) -> None:
    """Waits up to 10 s: the job's last process cleans up after the job has ended."""

    def leftovers() -> list[str]:
        of_redis = [f"vitrine:search:{job_id}", f"vitrine:helpers:{job_id}"]
        waiting = [name for name in jobs.queues["train"].get_job_ids() if job_id in name]
        states = list(storage.keys(search_folder(job_id)))
        return [key for key in of_redis if jobs.leases.redis.exists(key)] + waiting + states

    deadline = time.monotonic() + 10
    while leftovers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers() == []


def test_a_search_ends_with_a_registered_model_that_tells_how_it_was_found(
    jobs: JobQueue, storage: Storage, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    wanted = GenerateAfterwards(n=3, category="hat", seed=5, output_format="webp")
    search = tiny_search(dataset, promote="production", promote_force=True, generate=wanted)
    job = jobs.submit("nas", search)
    record = wait_for(jobs, job.id, succeeded)

    assert record.result is not None
    assert (record.result["model"], record.result["version"]) == ("found", 1)
    assert (record.result["alias"], record.result["generated"]) == ("production", 3)
    card = Registry(storage).resolve("found@production")
    assert card.origin == job.id
    assert card.search is not None
    by_name: dict[str, Any] = card.search
    scores = [
        sum(each["score_report"]) / len(each["score_report"]) for each in by_name["finalists"]
    ]
    assert scores == sorted(scores, reverse=True)
    assert by_name["score_report"] == record.result["score_report"] == scores[0]
    # What was shown last and the result are one measure; the search's own has another name.
    assert record.metrics["best_score_report"] == scores[0]
    assert record.metrics["best_kid_report"] == by_name["kid_report"]
    assert record.metrics["default_kid_report"] == record.result["default_kid_report"]
    assert record.metrics["default_kid_search"] != record.metrics["default_kid_report"]
    assert [each["is_default"] for each in by_name["finalists"]].count(True) == 1
    evaluation: dict[str, Any] = json.loads(json.dumps(card.metrics["evaluation"]))
    # The report's judges are not the search's.
    assert by_name["searched_by"] not in evaluation["protocol"]["judges"].values()

    check_files(storage, job.id, card)
    trials = trials_of(storage, job.id)
    trained = {trial["candidate"] for trial in trials if trial["images"] > 0}
    assert record.result["trials"] == len(trained)
    assert 1 <= len(trained) <= 4
    assert any(trial["pareto"] for trial in trials)
    assert_nothing_is_left_of(jobs, storage, job.id)
    check_follow_up(jobs, storage, card)


def check_follow_up(jobs: JobQueue, storage: Storage, found: ModelCard) -> None:
    """A train job takes the architecture that a search has found; its own fields override it."""
    follow_up = TrainJob(
        dataset=str(found.data["dataset"]),
        model="again",
        resolution=28,
        preset="fast",
        max_images=64,
        batch_size=16,
        architecture=FromJob(from_job=found.origin),
    )
    wait_for(jobs, jobs.submit("train", follow_up).id, succeeded)
    again = Registry(storage).resolve("again")
    assert again.architecture == found.architecture
    assert (again.training["lr"], again.training["batch_size"]) == (found.training["lr"], 16)


def check_files(storage: Storage, job_id: str, card: ModelCard) -> None:
    """A search stores the table and the Pareto plot as files of the job."""
    names = set(JobFiles(storage, job_id).keys())
    assert {"trials.json", "pareto.png", "architecture.json", "curves.png"} <= names
    assert {"samples.png", "neighbours.png", "generated.png"} <= names
    assert {"generated.zip", "generated.jsonl"} <= names
    assert {f"generated-0000{number}.webp" for number in range(3)} <= names
    assert {"trials.json", "pareto.png"} <= set(card.files)
    plot = Image.open(BytesIO(JobFiles(storage, job_id).read("pareto.png")))
    assert plot.width == 1100


def test_a_killed_search_keeps_what_it_has_found(
    jobs: JobQueue, storage: Storage, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = jobs.submit("nas", tiny_search(dataset))
    wait_for(jobs, job.id, lambda _: len(trials_of(storage, job.id)) >= 1)
    before = trials_of(storage, job.id)
    os.kill(work_horse_of(worker), signal.SIGKILL)
    record = wait_for(jobs, job.id, succeeded)
    assert (record.attempt, record.crashes) == (2, 1)
    after = [{**trial, "pareto": None} for trial in trials_of(storage, job.id)]
    assert all({**trial, "pareto": None} in after for trial in before)


def test_two_workers_share_a_search_and_either_may_die(
    jobs: JobQueue, storage: Storage, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    leader = start_worker()
    job = jobs.submit("nas", tiny_search(dataset, max_trials=6, parallel_trials=2, max_seconds=60))
    wait_for(jobs, job.id, lambda record: record.stage == "searching")
    helper = start_worker()
    wait_for(jobs, job.id, lambda _: has_horse(helper))
    owners = wait_for_owners(jobs, job.id)
    assert any(owner.startswith(f"{jobs.fetch(job.id).held_by}/") for owner in owners)
    os.kill(work_horse_of(helper), signal.SIGKILL)
    time.sleep(1)
    os.kill(work_horse_of(leader), signal.SIGKILL)
    record = wait_for(jobs, job.id, succeeded)
    assert record.result is not None
    trials = record.result["trials"]
    assert isinstance(trials, int)
    assert trials >= 1
    assert_nothing_is_left_of(jobs, storage, job.id)


def has_horse(worker: "subprocess.Popen[bytes]") -> bool:
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return len(children) == 1


def wait_for_owners(jobs: JobQueue, job_id: str) -> set[str]:
    """Wait until two processes have claimed trainings; returns their names."""
    owners: set[str] = set()

    def are_two(_: JobRecord) -> bool:
        lines = jobs.leases.redis.lrange(f"vitrine:search:{job_id}", 0, -1)
        attributes = [json.loads(line).get("user_attr", {}) for line in lines]
        owners.update(each["owner"] for each in attributes if "owner" in each)
        return len(owners) == 2

    wait_for(jobs, job_id, are_two)
    return owners


def test_a_search_is_cancelled_within_five_seconds_and_leaves_nothing(
    jobs: JobQueue, storage: Storage, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    job = jobs.submit("nas", tiny_search(dataset, max_seconds=600, parallel_trials=3))
    wait_for(jobs, job.id, lambda record: record.stage == "searching")
    asked = time.monotonic()
    jobs.cancel(job.id)
    wait_for(jobs, job.id, lambda record: record.status == "cancelled")
    assert time.monotonic() - asked < 5
    assert_nothing_is_left_of(jobs, storage, job.id)


def test_a_limit_that_nothing_keeps_fails_the_job_and_says_what_was_near(
    jobs: JobQueue, dataset: DatasetRecord, start_worker: StartWorker
) -> None:
    start_worker()
    objectives = [Objective(metric="kid"), Objective(metric="latency_ms", limit=1e-4)]
    search = tiny_search(dataset, max_trials=2, max_seconds=6).model_copy(
        update={"objectives": objectives}
    )
    record = wait_for(jobs, jobs.submit("nas", search).id, lambda r: r.status == "failed")
    assert record.error is not None
    assert record.error.code == "limits_not_met"
    assert "the nearest has latency_ms" in record.error.message


@pytest.mark.parametrize(
    "objectives",
    [
        [],
        [{"metric": "latency_ms"}],
        [{"metric": "kid", "limit": 1.0}],
        [{"metric": "kid"}, {"metric": "kid"}],
        [{"metric": "kid"}, {"metric": "parameters", "limit": 0}],
        [{"metric": "kid"}, {"metric": "beauty"}],
    ],
)
def test_objectives_that_make_no_search_are_refused(
    dataset: DatasetRecord, objectives: list[dict[str, object]]
) -> None:
    with pytest.raises(ValueError, match="objectives"):
        tiny_search(dataset, objectives=objectives)
