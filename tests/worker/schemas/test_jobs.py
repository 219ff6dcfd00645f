"""The job schemas agree with `models`, which they copy names from instead of importing torch."""

from dataclasses import fields
from typing import get_args

import pytest

from models.networks.gan import Resolution
from models.training.losses import Loss
from models.training.presets import Preset
from models.training.remedies import Remedies
from models.training.train_config import TrainConfig
from worker.schemas.requests import TrainJob


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
