"""Retention: jobs that ended long ago are deleted with all their files, and nothing else is."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest

from worker.ledger.artifacts import JobFiles
from worker.ledger.records import JobNotFound, Records
from worker.ledger.retention import expired, prune
from worker.queue.queue import JobQueue
from worker.schemas.jobs import JobRecord, first_id_at, move, now
from worker.schemas.requests import TrainJob
from worker.schemas.webhook_request import Webhook
from worker.settings import Settings
from worker.storage import Storage
from worker.webhooks.deliveries import DeliveryAttempt

REQUEST = TrainJob(
    dataset="ds_00000000000000sample",
    model="m",
    webhook=Webhook(url="https://shop.example/hook"),
)
WEEK = timedelta(days=7)


def ended(jobs: JobQueue, age: timedelta, number: int = 0) -> JobRecord:
    """A job that was submitted and cancelled that long ago, with every kind of stored file."""
    moment = now() - age
    job_id = f"{first_id_at('job', moment)}{number:010d}"
    record = JobRecord.new("train", REQUEST, job_id)
    record = record.model_copy(update={"created_at": moment, "moved_at": moment})
    assert jobs.ledger.create(record)
    JobFiles(jobs.ledger.storage, job_id).put(1, "samples.png", b"a sheet")
    jobs.ledger.events.add(job_id, "log", {"message": "hello"})
    done = move(record, "cancelled").model_copy(update={"finished_at": moment})
    jobs.ledger.records.append(done)
    list(jobs.ledger.active())  # closes it, as the reconciler does
    attempt = DeliveryAttempt(at=moment, status_code=200)
    jobs.ledger.deliveries.add(done, attempt, (1.0,))
    return done


def stored(storage: Storage, job_id: str) -> list[str]:
    folders = ("jobs", "webhooks/deliveries")
    return [key for folder in folders for key in storage.keys(folder) if job_id in key]


def test_what_ended_long_ago_is_deleted_with_all_its_files(
    jobs: JobQueue, storage: Storage
) -> None:
    old, young = ended(jobs, 2 * WEEK), ended(jobs, timedelta(hours=1))
    queued = jobs.submit("train", REQUEST.model_copy(update={"webhook": None}))
    others = Records(storage)
    assert others.read(old.id).status == "cancelled"  # now in its cache
    kinds = {key.split("/")[1] for key in stored(storage, old.id)}
    assert kinds == {"records", "artifacts", "events", "deliveries"}
    assert list(prune(jobs.ledger, WEEK)) == [old.id]
    assert stored(storage, old.id) == []
    assert len(stored(storage, young.id)) >= 4
    for records in (jobs.ledger.records, others):
        with pytest.raises(JobNotFound):
            records.read(old.id)
    listed, _ = jobs.page(None, None, 10, None)
    assert [record.id for record in listed] == [queued.id, young.id]
    assert list(prune(jobs.ledger, WEEK)) == []


def test_a_job_that_ran_for_long_is_kept_by_its_end(jobs: JobQueue) -> None:
    record = ended(jobs, 2 * WEEK)
    recent = record.model_copy(update={"finished_at": now(), "revision": 3})
    jobs.ledger.records.delete(record.id)
    for revision in (1, 2):
        jobs.ledger.records.append(
            record.model_copy(update={"revision": revision, "status": "queued"})
        )
    jobs.ledger.records.append(recent)
    jobs.ledger.records.close(record.id)
    assert list(expired(jobs.ledger, WEEK)) == []


def test_an_interrupted_deletion_is_finished_by_the_next(jobs: JobQueue, storage: Storage) -> None:
    record = ended(jobs, 2 * WEEK)
    storage.delete(f"jobs/records/{record.id}/000001.json")
    with pytest.raises(JobNotFound):
        jobs.fetch(record.id)
    assert stored(storage, record.id)
    assert list(prune(jobs.ledger, WEEK)) == [record.id]
    assert stored(storage, record.id) == []


def test_the_command_lists_then_deletes(jobs: JobQueue, settings: Settings) -> None:
    old = ended(jobs, 2 * WEEK)
    ended(jobs, timedelta(hours=1))
    assert command(settings, "--days", "7", "--dry-run").stdout == f"{old.id}\n"
    assert command(settings, "--days", "7").stdout == "deleted 1 jobs\n"
    assert command(settings, "--days", "7").stdout == "deleted 0 jobs\n"


def test_the_command_says_what_it_lacks(settings: Settings) -> None:
    assert "at least 1" in command(settings, "--days", "0").stderr
    embedded = subprocess.run(
        [sys.executable, "-m", "worker.prune", "--days", "7"], capture_output=True, text=True
    )
    assert embedded.returncode == 1
    assert "VITRINE_STORAGE_URL" in embedded.stderr


def command(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "VITRINE_REDIS_URL": str(settings.redis_url),
        "VITRINE_STORAGE_URL": str(settings.storage_url),
    }
    return subprocess.run(
        [sys.executable, "-m", "worker.prune", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_damaged_job_is_kept_and_holds_up_no_other(jobs: JobQueue, storage: Storage) -> None:
    damaged, old = ended(jobs, 2 * WEEK, 1), ended(jobs, 2 * WEEK, 2)
    storage.put(f"jobs/records/{damaged.id}/000002.json", b"")
    jobs.ledger.records = Records(storage)  # of another process, without a cache
    assert list(prune(jobs.ledger, WEEK)) == [old.id]
    assert stored(storage, damaged.id)
