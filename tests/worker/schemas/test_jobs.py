"""The job schemas agree with `models`, which they copy names from instead of importing torch."""

from dataclasses import fields
from typing import get_args

import pytest

from models.networks.gan import Resolution
from models.training.losses import Loss
from models.training.presets import Preset
from models.training.remedies import Remedies
from models.training.train_config import TrainConfig
from worker.schemas.jobs import derived_id, is_id, made_at, new_id
from worker.schemas.requests import GenerateJob, TrainJob


@pytest.mark.parametrize(
    ("field", "offered"), [("resolution", Resolution), ("preset", Preset), ("loss", Loss)]
)
def test_a_job_may_ask_for_exactly_what_the_core_offers(field: str, offered: object) -> None:
    annotation = TrainJob.model_fields[field].annotation
    choices = next((part for part in get_args(annotation) if get_args(part)), annotation)
    assert set(get_args(choices)) == set(get_args(offered))


def test_every_recipe_field_of_a_job_is_one_of_the_core() -> None:
    assert {field.name for field in fields(TrainConfig)} >= TrainJob.RECIPE
    ours = TrainJob(dataset="ds_00000000000000sample", model="m").remedies.model_dump()
    assert Remedies(**ours) == Remedies()


@pytest.mark.parametrize(
    "name", [".DS_Store", "job_", "job_x", "job_!!!!!!!!!!0123456789", "job_" + 20 * "z", "up_x"]
)
def test_a_foreign_name_is_no_id(name: str) -> None:
    assert not is_id("job", name)


def test_what_new_id_makes_is_an_id_of_its_kind() -> None:
    assert is_id("job", new_id("job"))
    assert not is_id("job", new_id("up"))


def test_a_category_is_known_however_its_letters_are_composed() -> None:
    decomposed, composed = "Gro\u0308\u00dfe", "Gr\u00f6\u00dfe"
    assert decomposed != composed
    assert GenerateJob(n=1, category=decomposed).category == composed
    assert GenerateJob(categories={decomposed: 2}).categories == {composed: 2}


def test_a_derived_id_follows_from_another_one_and_sorts_beside_it() -> None:
    made = new_id("up")
    job = derived_id("job", made)
    assert job == derived_id("job", made) != derived_id("job", new_id("up"))
    assert is_id("job", job)
    assert made_at(job) == made_at(made)
    assert job.removeprefix("job_") != made.removeprefix("up_")
