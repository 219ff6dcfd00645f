"""The job schemas, which restate what the core offers because they must not import torch."""

from typing import get_args

import pytest

from models.gan import Preset, Resolution
from models.losses import Loss
from models.train import TrainConfig
from worker.jobs import TrainJob


@pytest.mark.parametrize(
    ("field", "offered"), [("resolution", Resolution), ("preset", Preset), ("loss", Loss)]
)
def test_a_job_may_ask_for_exactly_what_the_core_offers(field: str, offered: object) -> None:
    assert set(get_args(TrainJob.model_fields[field].annotation)) == set(get_args(offered))


def test_a_job_that_names_no_loss_gets_the_default_one() -> None:
    assert TrainJob(dataset="ds_00000000000000sample", model="m").loss == TrainConfig().loss
