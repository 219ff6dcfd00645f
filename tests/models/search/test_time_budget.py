"""Time budget: how a search divides its time."""

import pytest

from models.evaluation.evaluation_set import EvaluationSet
from models.progress import run
from models.search.search_space import Architecture
from models.search.time_budget import (
    FEWEST_IMAGES,
    images_per_second,
    plan,
    plan_finals,
)
from models.training.presets import preset_config, preset_recipe


def images_of(rungs: tuple[int, ...], max_trials: int) -> float:
    """Images shown in a whole search, where one in three is promoted each time."""
    shown, trainings = 0.0, float(max_trials)
    before = 0
    for rung in rungs:
        shown += trainings * (rung - before)
        trainings, before = trainings / 3, rung
    return shown


@pytest.mark.parametrize(("max_trials", "rungs"), [(1, 1), (2, 1), (3, 2), (9, 3), (40, 3)])
def test_the_rungs_use_up_half_of_the_time(max_trials: int, rungs: int) -> None:
    budget = plan(200.0, 40_000.0, max_trials, processes=1)
    assert len(budget.rungs) == rungs
    assert images_of(budget.rungs, max_trials) == pytest.approx(200 * 20_000, rel=0.01)
    assert budget.search_seconds == 20_000


def test_two_processes_train_for_twice_as_long_each() -> None:
    alone, together = (plan(100.0, 3600.0, 30, processes=n) for n in (1, 2))
    assert together.rungs[0] == pytest.approx(2 * alone.rungs[0], abs=2)


@pytest.mark.parametrize(("processes", "waves"), [(1, 6), (2, 3), (4, 2), (9, 1)])
def test_the_final_trainings_and_their_measuring_use_up_what_is_left(
    processes: int, waves: int
) -> None:
    length = plan_finals(100.0, 1200.0, 6, processes, measuring_s=20.0)
    assert length.trainings == 6
    assert waves * (length.seconds + 20) == pytest.approx(1200)
    # A training ends by its images, unless the machine becomes a tenth slower.
    assert length.images == pytest.approx(0.9 * 100 * length.seconds, abs=1)


def test_no_training_is_too_short_to_compare_by() -> None:
    assert plan(1.0, 1.0, 1000, processes=1).rungs[0] == FEWEST_IMAGES
    assert plan_finals(1.0, 1.0, 10, processes=1).images == FEWEST_IMAGES


def test_the_speed_is_measured(photos: EvaluationSet) -> None:
    start = Architecture(gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100))
    assert 10 < run(images_per_second(start, photos.training, 20.0)) < 100_000
