"""python -m benchmarks.stages: where a job's time goes, from its claim to its end, stage by stage.

The whole service runs as a user starts it; an archive is uploaded and a train or nas job submitted
as many times as there are rounds. In the first round nothing is known of the photos; the later ones
find what the judges saw of them.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import machine
from tests.service import Service

POLL_S = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Upload, run the jobs, and print the seconds of each stage."""
    options = _parser().parse_args(arguments)
    with _service() as service:
        began = time.monotonic()
        with options.archive.open("rb") as archive:
            answer = service.client.post("/datasets", files={"file": archive}, timeout=600)
        assert answer.status_code == 201, answer.text
        dataset = answer.json()
        photos = dataset["images"]
        print(f"upload of {photos} photos: {time.monotonic() - began:.1f} s; {machine()}")
        for number in range(options.rounds):
            body: dict[str, Any] = {
                "dataset": dataset["id"],
                "model": "timed",
                "resolution": options.resolution,
                "preset": options.preset,
                "max_seconds": options.max_seconds,
            }
            submitted = service.client.post(f"/jobs/{options.job}", json=body)
            assert submitted.status_code == 202, submitted.text
            _report(number, _watched(service, submitted.json()["id"]), options.max_seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="zip of training photos")
    parser.add_argument("--job", choices=("train", "nas"), default="train")
    parser.add_argument("--resolution", type=int, choices=(28, 32, 64, 128), default=64)
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--max-seconds", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    return parser


@contextmanager
def _service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder:
        service = Service({"VITRINE_DATA_DIR": folder})
        try:
            service.wait_until_ready()
            yield service
        finally:
            service.close()


def _watched(service: Service, job_id: str) -> tuple[dict[str, float], dict[str, Any]]:
    """When each stage was first seen, in seconds since the claim, and the job's last record."""
    stages: dict[str, float] = {}
    claimed = None
    while True:
        job: dict[str, Any] = service.client.get(f"/jobs/{job_id}").json()
        if job["status"] == "running" and claimed is None:
            claimed = time.monotonic()
        if claimed is not None and job["stage"] not in (None, *stages):
            stages[job["stage"]] = time.monotonic() - claimed
        if job["status"] in ("succeeded", "failed", "cancelled"):
            assert job["status"] == "succeeded", job["error"]
            assert claimed is not None
            return stages | {"end": time.monotonic() - claimed}, job
        time.sleep(POLL_S)


def _report(number: int, watched: tuple[dict[str, float], dict[str, Any]], asked_s: int) -> None:
    """Print how long each stage took, and the whole against what was asked for."""
    stages, job = watched
    print(f"\nround {number + 1}: {stages['end']:.0f} s of {asked_s}; {job['result']['verdict']}")
    times = list(stages.items())
    for (name, began), (_, ended) in zip(times, times[1:], strict=False):
        print(f"  {name:<32} from {began:6.1f} s  {ended - began:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
