"""Worker slots: queues that do not wait for each other, and processes that are kept alive."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from tests.processes import children, running, wait_until
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.queue.queue_stats import count_workers
from worker.queue.slots import NICENESS, WorkerProcess
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import GenerateJob, QueueName, TrainJob
from worker.storage import Storage

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
BOTH = "generate,train"
MANY = 2000


@pytest.fixture
def long_job(tiny_job: TrainJob, storage: Storage) -> TrainJob:
    """A training that goes on until it is stopped; the shipped models are there too."""
    register_models(Registry(storage))
    return tiny_job.model_copy(update={"max_images": 50_000_000})


def slots_of(worker: "subprocess.Popen[bytes]", queue: QueueName) -> list[int]:
    """Pids of the worker's processes that serve the queue: one, but while it is started again."""
    setting, found = f"VITRINE_QUEUES={queue}".encode(), []
    for pid in children(worker.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if setting in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def horse_of(worker: "subprocess.Popen[bytes]", queue: QueueName) -> int:
    """Pid of the work-horse of the worker's process that serves the queue."""
    (slot,) = slots_of(worker, queue)
    (horse,) = children(slot)
    return horse


def training(record: JobRecord) -> bool:
    return record.stage == "training"


def succeeded(record: JobRecord) -> bool:
    return record.status == "succeeded"


def test_a_bulk_generation_ends_while_a_training_that_came_first_still_runs(
    jobs: JobQueue, long_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker(BOTH)
    trained = jobs.submit("train", long_job)
    wait_for(jobs, trained.id, training)
    horse = horse_of(worker, "train")
    images = jobs.submit("generate", GenerateJob(model="fashion-mnist:1", n=20, seed=7))
    wait_for(jobs, images.id, succeeded)
    still = jobs.fetch(trained.id)
    assert (still.status, still.attempt, horse_of(worker, "train")) == ("running", 1, horse)
    assert count_workers(jobs) == {"generate": 1, "train": 1}


@pytest.mark.parametrize("queue", ["generate", "train"])
def test_the_death_of_one_work_horse_does_not_touch_the_job_of_the_other(
    jobs: JobQueue,
    long_job: TrainJob,
    start_worker: StartWorker,
    queue: QueueName,
) -> None:
    worker = start_worker(BOTH)
    trained = jobs.submit("train", long_job.model_copy(update={"max_images": 1600}))
    images = jobs.submit("generate", GenerateJob(model="fashion-mnist:1", n=MANY, seed=7))
    if queue == "train":
        wait_for(jobs, trained.id, training)
    else:
        files = JobFiles(jobs.ledger.storage, images.id)
        wait_for(jobs, images.id, lambda _: len(files.keys()) > MANY // 10)
    os.kill(horse_of(worker, queue), signal.SIGKILL)
    ended = {
        "generate": wait_for(jobs, images.id, succeeded),
        "train": wait_for(jobs, trained.id, succeeded),
    }
    deaths = {name: record.crashes for name, record in ended.items()}
    assert deaths == {"generate": 0, "train": 0} | {queue: 1}


def test_a_worker_that_is_told_to_stop_hands_the_jobs_of_both_queues_back(
    jobs: JobQueue, storage: Storage, long_job: TrainJob, start_worker: StartWorker
) -> None:
    worker = start_worker(BOTH)
    trained = jobs.submit("train", long_job)
    images = jobs.submit("generate", GenerateJob(model="fashion-mnist:1", n=100_000, seed=7))
    wait_for(jobs, trained.id, training)
    wait_for(jobs, images.id, lambda _: bool(JobFiles(storage, images.id).keys()))
    horses = [horse_of(worker, queue) for queue in ("generate", "train")]
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    worker.send_signal(signal.SIGINT)  # an impatient operator's
    assert worker.wait(timeout=20) == 0
    assert not any(map(running, horses))
    for job_id in (trained.id, images.id):
        record = jobs.fetch(job_id)
        assert (record.status, record.attempt, record.crashes) == ("queued", 2, 0)
    assert count_workers(jobs) == {"generate": 0, "train": 0}


def test_a_slot_that_is_killed_is_started_again(jobs: JobQueue, start_worker: StartWorker) -> None:
    worker = start_worker(BOTH)
    wait_until(lambda: all(count_workers(jobs).values()), "a slot did not start")
    (killed,), others = slots_of(worker, "generate"), slots_of(worker, "train")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: slots_of(worker, "generate") not in ([], [killed]), "it stays dead")
    assert slots_of(worker, "train") == others


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    worker = WorkerProcess({"FOLDER": str(tmp_path)}, SLEEP)
    first = worker.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: worker.pid != first and running(worker.pid), "no second worker came")
    assert worker.restarts == 1
    last = worker.pid
    worker.stop()
    assert not running(last)


TOLD = """
import os, signal, sys, time
from pathlib import Path
from worker.processes import die_with_parent
die_with_parent(signal.SIGTERM, os.getppid())
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("SIGTERM"))
Path(sys.argv[1]).touch()
while not told:
    time.sleep(0.05)
time.sleep(1)
Path(sys.argv[1]).write_text(" ".join(told))
"""


def test_a_worker_that_was_started_again_is_told_to_end_once(tmp_path: Path) -> None:
    """A second SIGTERM would have RQ drop the job that it is handing back."""
    told = tmp_path / "told"
    worker = WorkerProcess({}, [sys.executable, "-c", TOLD, str(told)])
    wait_until(told.exists, "the worker did not start")
    told.unlink()
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(told.exists, "no second worker came")
    worker.stop()
    assert told.read_text() == "SIGTERM"


def test_a_worker_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    worker = WorkerProcess({}, [str(program)])
    program.rename(tmp_path / "away")
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(1.7)
    assert worker.restarts == 0
    (tmp_path / "away").rename(program)
    wait_until(lambda: worker.restarts == 1, "it was given up")
    worker.stop()
    assert not running(worker.pid)


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    worker = WorkerProcess({}, [sys.executable, "-c", deaf])
    time.sleep(0.5)
    worker.stop(timeout_s=0.5)
    assert not running(worker.pid)


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """When its parent is killed by SIGKILL, the worker must end too and take no more jobs."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        program = (
            "import os, subprocess, sys, time\n"
            "command = [sys.executable, '-m', 'worker', '--parent', str(os.getpid())]\n"
            "worker = subprocess.Popen(command)\n"
            "print(worker.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        environment = os.environ | {
            "VITRINE_REDIS_URL": server.url,
            "VITRINE_STORAGE_URL": f"file://{tmp_path}/objects",
            "VITRINE_QUEUES": "train",
        }
        starter = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        with Redis.from_url(server.url) as client:
            wait_until(lambda: client.scard("rq:workers"), "the worker did not register")
        # Lower priority: a training uses every core, and the parent's requests must not wait.
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + NICENESS["train"], 19)
        starter.kill()
        starter.wait()
        starter.stdout.close()
        wait_until(lambda: not running(pid), "the worker outlived its starter")
