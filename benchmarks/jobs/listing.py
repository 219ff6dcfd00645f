"""python -m benchmarks.jobs.listing: latency of GET /jobs, submit and reconcile as jobs accumulate.

The object store, a folder or moto's S3 server, is filled with records of ended jobs, three
revisions each. Requests then go over HTTP to a service without a worker. `--checkout NAME=FOLDER`
measures another commit's service in turn, on the same store: FOLDER is what `git worktree add`
makes.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

import httpx
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from benchmarks.measure import machine
from tests.s3 import BUCKET, s3_environment
from tests.service import Service
from worker.embedded_valkey import EmbeddedValkey
from worker.ledger.job_index import rebuild
from worker.queue.queue import JobQueue, open_queue
from worker.queue.reconciler import reconcile
from worker.registry.bundled_models import SAMPLE_ARCHIVE
from worker.schemas.jobs import JobRecord, first_id_at, move, now
from worker.schemas.requests import TrainJob
from worker.settings import Settings
from worker.storage import Storage

OURS = "vitrine"
REQUEST = TrainJob(dataset="ds_00000000000000sample", model="m")
RARE = REQUEST.model_copy(update={"model": "shoes"})
FIRST = timedelta(days=365)  # ago, the first job was submitted
PREFIX = "benchmark"
Write = Callable[[str, bytes], None]
Ask = Callable[[], object]


def records(start: int, end: int) -> Iterator[list[JobRecord]]:
    """The revisions of ended jobs, numbered; one in ten has failed, another is of a rare model."""
    began = now() - FIRST
    for number in range(start, end):
        moment = began + timedelta(seconds=60 * number)
        job_id = f"{first_id_at('job', moment)}{number:010d}"
        queued = JobRecord.new("train", RARE if number % 10 == 5 else REQUEST, job_id)
        queued = queued.model_copy(update={"created_at": moment, "moved_at": moment})
        running = move(queued, "running", held_by=f"{job_id}-0", started_at=moment)
        ended = move(running, "failed" if number % 10 == 0 else "succeeded")
        yield [queued, running, ended]


@contextmanager
def file_store(folder: Path) -> Iterator[tuple[dict[str, str], Write]]:
    """A folder: the settings that name it, and a way to fill it quickly."""
    objects = folder / "objects"

    def write(key: str, data: bytes) -> None:
        path = objects / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    yield {"VITRINE_STORAGE_URL": f"file://{objects}"}, write


@contextmanager
def s3_store(_folder: Path) -> Iterator[tuple[dict[str, str], Write]]:
    """moto's server in this process, so that it is filled without HTTP."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    backend = get_backend("s3")["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")

    def write(key: str, data: bytes) -> None:
        backend.put_object(BUCKET, f"{PREFIX}/{key}", data)

    _, port = server.get_host_and_port()
    yield s3_environment(port) | {"VITRINE_STORAGE_URL": f"s3://{BUCKET}/{PREFIX}"}, write
    server.stop()


STORES = {"files": file_store, "s3": s3_store}


@contextmanager
def service(settings: dict[str, str], checkout: Path | None) -> Iterator[httpx.Client]:
    """A running API and a client of it."""
    running = Service(settings | {"VITRINE_MAX_QUEUED_JOBS": "10000"}, checkout=checkout)
    try:
        running.wait_until_ready()
        running.client.timeout = httpx.Timeout(600)
        yield running.client
    finally:
        running.process.terminate()
        running.close()


def fill(write: Write, jobs: JobQueue, start: int, end: int) -> None:
    """Store the records of these jobs, and index them as their transitions would have."""
    batch: list[JobRecord] = []
    for revisions in records(start, end):
        for record in revisions:
            key = f"jobs/records/{record.id}/{record.revision:06d}.json"
            write(key, record.model_dump_json().encode())
        batch.append(revisions[-1])
        if len(batch) == 1000:
            jobs.ledger.index.put_all(batch)
            batch = []
    jobs.ledger.index.put_all(batch)
    jobs.ledger.index.end_building(jobs.ledger.index.begin_building())


def questions(client: httpx.Client, dataset: str) -> dict[str, Ask]:
    """The requests that are timed over HTTP."""
    body = {"dataset": dataset, "model": "m", "resolution": 28, "batch_size": 16}

    def listing(query: str) -> Ask:
        def ask() -> None:
            page = client.get(f"/jobs?limit=50{query}").raise_for_status().json()
            assert len(page["data"]) >= 5

        return ask

    def submit() -> None:
        client.post("/jobs/train", json=body).raise_for_status()

    return {
        "GET /jobs?limit=50": listing(""),
        "GET /jobs?limit=50&status=failed": listing("&status=failed"),
        "GET /jobs?limit=50&model=shoes": listing("&model=shoes"),
        "POST /jobs/train": submit,
    }


def timed(ask: Ask) -> float:
    """The call's duration in milliseconds."""
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)


def measure(
    sides: Mapping[str, httpx.Client], jobs: JobQueue, options: argparse.Namespace, slow: bool
) -> dict[str, float]:
    """Medians in milliseconds; the sides are measured in turn."""
    with SAMPLE_ARCHIVE.open("rb") as archive:
        ours = sides[OURS]
        answer = ours.post("/datasets", files={"file": archive}, data={"name": "sample"})
    dataset = answer.raise_for_status().json()["id"]
    asked = {name: questions(client, dataset) for name, client in sides.items()}
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, each in asked.items():
            repeats = 1 if slow and name != OURS else options.repeats
            for what, ask in each.items():
                ask()  # once unmeasured: the page's records come into memory
                found = [timed(ask) for _ in range(repeats)]
                times.setdefault(f"{what}  {name}", []).append(median(found))
        found = [timed(lambda: reconcile(jobs)) for _ in range(options.repeats)]
        times.setdefault(f"reconcile  {OURS}", []).append(median(found))
        for record in jobs.ledger.active():
            jobs.cancel(record.id)
        jobs.queues["train"].empty()
    return {what: median(found) for what, found in times.items()}


def measure_store(kind: str, options: argparse.Namespace) -> None:
    """Measure one kind of store at growing numbers of jobs."""
    checkouts = {OURS: None} | {name: Path(folder) for name, folder in options.checkouts.items()}
    table: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp())
        stack.callback(shutil.rmtree, folder)
        backing, write = stack.enter_context(STORES[kind](folder))
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        environment = backing | {"VITRINE_REDIS_URL": valkey.url}
        os.environ.update(backing)  # obstore reads the credentials from there
        settings = Settings(redis_url=valkey.url, storage_url=backing["VITRINE_STORAGE_URL"])
        jobs = open_queue(settings, Storage.open(backing["VITRINE_STORAGE_URL"]), timeout_s=5)
        size = 0
        for wanted in options.records:
            fill(write, jobs, size, wanted)
            size = wanted
            with ExitStack() as running:
                slow = kind == "s3" and size > options.most_listed
                sides = {
                    name: running.enter_context(service(environment, checkout))
                    for name, checkout in checkouts.items()
                    if name == OURS or not slow
                }
                table[size] = measure(sides, jobs, options, slow=size > 1000)
            if not slow:
                rebuilding = timed(lambda: [*rebuild(jobs.ledger.index, jobs.ledger.records)])
                table[size]["index built anew"] = rebuilding
            print(f"{kind}, {size} jobs: {json.dumps(table[size])}", flush=True)
    _print(kind, table)


def _print(kind: str, table: Mapping[int, Mapping[str, float]]) -> None:
    print(f"\n{kind}: medians, ms, by the number of jobs that have ended")
    rows = list(dict.fromkeys(what for column in table.values() for what in column))
    print(f"  {'':<46}" + "".join(f"{size:>12,}" for size in table))
    for what in rows:
        cells = (f"{c[what]:12,.1f}" if what in c else f"{'-':>12}" for c in table.values())
        print(f"  {what:<46}" + "".join(cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table for each kind of store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--stores", nargs="+", default=["files", "s3"], choices=STORES)
    add("--records", type=int, nargs="+", default=[100, 10_000, 100_000])
    add("--rounds", type=int, default=5)
    add("--repeats", type=int, default=10, help="of each question in each round")
    add("--most-listed", type=int, default=10_000, help="jobs, above which S3 is not listed")
    add("--checkout", action="append", default=[], metavar="NAME=FOLDER", help="of another commit")
    options = parser.parse_args(arguments)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request to S3
    options.checkouts = dict(each.split("=", 1) for each in options.checkout)
    for kind in options.stores:
        measure_store(kind, options)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
