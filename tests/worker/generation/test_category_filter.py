"""`min_category_probability` in bulk: what passes, what is left out, and what is told of it."""

import json

import pytest
import torch

from models.checkpoint import load_model
from models.classification.photo_classifier import CLASSIFIER_FILE, load_photo_classifier
from models.classification.tried_seeds import TRIES, tried_seed
from models.imaging.encoding import seed_in
from models.inference.engine import open_engine
from models.inference.sample import latents
from tests.worker.conftest import StartWorker
from tests.worker.watching import wait_for
from worker.attempt.attempt import Attempt
from worker.generation.bulk_generation import NoImagePassed, bulk_request_of, make_files
from worker.generation.manifest import Tally
from worker.ledger.artifacts import JobFiles
from worker.queue.queue import JobQueue
from worker.registry.bundled_models import register_models
from worker.registry.registry import Registry
from worker.schemas.jobs import JobRecord
from worker.schemas.requests import GenerateJob
from worker.storage import Storage

MINIMUM = 0.97
JOB = GenerateJob(
    model="clothing:1", category="shirt", n=12, seed=100, min_category_probability=MINIMUM
)


@pytest.fixture(autouse=True)
def registry(storage: Storage) -> Registry:
    """Holds the shipped models."""
    registry = Registry(storage)
    register_models(registry)
    return registry


@pytest.fixture
def wanted(registry: Registry) -> list[int | None]:
    """The seed of each image of `JOB`, tried one by one; None where none passes."""
    card = registry.card("clothing", 1)
    engine = open_engine(load_model(registry.weights(card)).generator)
    classifier = load_photo_classifier(registry.file(card, CLASSIFIER_FILE))
    label = card.categories.index("shirt")

    def passes(seed: int) -> bool:
        pixels = engine(latents([seed], engine.config.z_dim), torch.tensor([label]))
        return float(classifier.probabilities(pixels)[0, label]) >= MINIMUM

    tried = [[tried_seed(first, number) for number in range(TRIES)] for first in range(100, 112)]
    return [next(filter(passes, seeds), None) for seeds in tried]


def made(jobs: JobQueue, registry: Registry, job: GenerateJob) -> tuple[JobRecord, Tally]:
    """Claim a job and make its files in this process."""
    record = jobs.ledger.claim(jobs.submit("generate", job).id, "me")
    assert record is not None
    return record, made_again(jobs, registry, record)


def made_again(jobs: JobQueue, registry: Registry, record: JobRecord) -> Tally:
    """Make the files of a claimed job, of which some may be there."""
    assert isinstance(record.request, GenerateJob)
    card, tally = registry.card("clothing", 1), Tally()
    bulk = bulk_request_of(record.request, card)
    list(make_files(Attempt(jobs.ledger, record), card, bulk, tally))
    return tally


def manifest(storage: Storage, job_id: str) -> list[dict[str, object]]:
    data = JobFiles(storage, job_id).read("generated.jsonl")
    return [json.loads(line) for line in data.splitlines()]


def test_each_image_has_the_first_of_its_seeds_that_passes(
    jobs: JobQueue, storage: Storage, wanted: list[int | None], start_worker: StartWorker
) -> None:
    passed = {index: seed for index, seed in enumerate(wanted) if seed is not None}
    assert len(passed) > 0
    assert any(seed != 100 + index for index, seed in passed.items())
    start_worker("generate")
    job = jobs.submit("generate", JOB)
    record = wait_for(jobs, job.id, lambda record: record.status == "succeeded")
    lines = manifest(storage, record.id)
    assert [line["seed"] for line in lines] == list(passed.values())
    assert [line["file"] for line in lines] == [f"generated-{i:05d}.png" for i in passed]
    rejected = [[tried_seed(100 + i, n) for n in range(seed >> 48)] for i, seed in passed.items()]
    assert [line["rejected_seeds"] for line in lines] == rejected
    left_out = len(wanted) - len(passed)
    assert record.result == {
        "model": "clothing",
        "version": 1,
        "generated": len(passed),
        "left_out": left_out,
        "rejected_seeds": sum(map(len, rejected)) + TRIES * left_out,
    }
    first = JobFiles(storage, record.id).read(str(lines[0]["file"]))
    assert seed_in(first) == lines[0]["seed"]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "avif"])
def test_what_an_earlier_attempt_has_stored_is_told_the_same(
    jobs: JobQueue, storage: Storage, registry: Registry, output_format: str
) -> None:
    job = JOB.model_copy(update={"n": 4, "output_format": output_format})
    record, tally = made(jobs, registry, job)
    files = JobFiles(storage, record.id)
    first = files.read("generated.jsonl"), files.read("generated.zip")
    assert tally.rejected_seeds > 0
    stored = files.keys()
    storage.delete(next(key for name, key in stored.items() if name.endswith(output_format)))
    assert made_again(jobs, registry, record) == tally
    assert (files.read("generated.jsonl"), files.read("generated.zip")) == first


def test_a_job_of_which_nothing_passes_fails_and_says_what_to_do(
    jobs: JobQueue, start_worker: StartWorker
) -> None:
    start_worker("generate")
    job = JOB.model_copy(update={"n": 1, "min_category_probability": 0.9999999})
    submitted = jobs.submit("generate", job)
    record = wait_for(jobs, submitted.id, lambda record: record.status == "failed")
    assert record.error is not None
    assert record.error.code == "too_few_passed"
    assert "lower it" in record.error.message


def test_without_a_filter_nothing_of_it_is_told(
    jobs: JobQueue, storage: Storage, registry: Registry
) -> None:
    job = JOB.model_copy(update={"n": 2, "min_category_probability": None})
    record, tally = made(jobs, registry, job)
    assert (tally.images, tally.left_out, tally.rejected_seeds) == (2, 0, 0)
    assert "rejected_seeds" not in manifest(storage, record.id)[0]


def test_no_files_are_left_of_a_job_of_which_nothing_passes(
    jobs: JobQueue, registry: Registry
) -> None:
    job = JOB.model_copy(update={"n": 1, "min_category_probability": 0.9999999})
    with pytest.raises(NoImagePassed):
        made(jobs, registry, job)
