"""Equal-time training."""

import time
from dataclasses import replace

import pytest

from models.data.datasets import Dataset
from models.progress import run
from models.search.equal_time import equalise_time, relative_speed
from models.search.search_space import Architecture, build
from models.training.presets import preset_config, preset_recipe
from models.training.state import initial_state
from models.training.train import train

START = Architecture(
    gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100, batch_size=16)
)
WIDE = build(START.point() | {"generator_width": 64, "discriminator_width": 64}, START)


def test_the_default_sees_what_it_is_told(squares: Dataset) -> None:
    state = initial_state(START.gan, START.recipe)
    run(equalise_time(state, START, squares, 300, 900))
    assert (state.config.max_images, state.config.anneal_images) == (300, 900)
    assert state.step == 0
    run(equalise_time(state, START, squares, 10**8, 10**8))
    assert state.config.anneal_images == 1_000_000


def test_a_larger_pair_sees_fewer_images_in_about_the_same_time(squares: Dataset) -> None:
    seconds = []
    for each in (START, WIDE):
        state = initial_state(each.gan, each.recipe)
        run(equalise_time(state, START, squares, 2000, 6000))
        assert state.config.anneal_images == pytest.approx(3 * state.config.max_images, rel=0.01)
        began = time.perf_counter()
        for _ in train(state, squares):
            pass
        seconds.append(time.perf_counter() - began)
    assert state.config.max_images < 1500
    # The machine may be shared, so the bounds are wide.
    assert 1 / 4 < seconds[0] / seconds[1] < 4


def test_a_second_discriminator_step_shows_as_many_images_again(squares: Dataset) -> None:
    twice = build(START.point() | {"discriminator_steps": 2}, START)
    # Two images a step instead of one, for less than twice the time; on a machine that is shared.
    assert max(run(relative_speed(twice, START, squares)) for _ in range(3)) > 0.9


def test_no_training_is_shorter_than_a_batch(squares: Dataset) -> None:
    state = initial_state(WIDE.gan, replace(WIDE.recipe, batch_size=32))
    run(equalise_time(state, START, squares, 1, 1))
    assert state.config.max_images == 32
