"""The presets: every one can be built, trained and afforded."""

import itertools
from typing import get_args

import pytest
import torch

from models.data.datasets import Dataset
from models.networks.gan import Resolution
from models.training.presets import (
    FEW_PHOTOS,
    Preset,
    preset_config,
    preset_recipe,
)
from models.training.state import initial_state
from models.training.train import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("resolution", get_args(Resolution))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_fast_pair_takes_a_step(resolution: Resolution, channels: int) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (8, channels, resolution, resolution)
    images = torch.randint(0, 256, shape, generator=random).to(torch.uint8)
    dataset = Dataset(images=images, labels=torch.arange(8) % 3, categories=("a", "b", "c"))
    gan = preset_config("fast", resolution, channels, 3)
    state = initial_state(gan, preset_recipe(resolution, 8, batch_size=4), CPU)
    progress = list(itertools.islice(train(state, dataset), 1))
    assert progress[0].images == 4
    assert state.is_finite()


def test_a_better_preset_is_a_wider_pair() -> None:
    presets: tuple[Preset, ...] = get_args(Preset)
    widths = [preset_config(preset, 64, 3, 10).generator_width for preset in presets]
    assert widths == sorted(set(widths))


def test_the_augmentation_of_small_data_sets_grows_and_large_ones_have_none() -> None:
    small, large = preset_recipe(64, FEW_PHOTOS - 1), preset_recipe(64, FEW_PHOTOS)
    assert small.augment_p_at(0) == 0 < small.augment_p_at(500_000) < small.augment_p_at(10**9)
    assert large.augment_p_at(10**9) == 0


def test_a_short_training_anneals_to_its_end() -> None:
    recipe = preset_recipe(64, 100, max_images=5000)
    assert recipe.lr_at(5000) == recipe.lr_end


def test_a_caller_may_change_the_recipe() -> None:
    recipe = preset_recipe(64, 100, loss="hinge", augment_p=0.1)
    assert recipe.loss == "hinge"
    assert recipe.augment_p_at(0) == recipe.augment_p_at(10**9) == 0.1


def test_a_presets_batch_is_at_most_the_photos_unless_asked_for() -> None:
    assert [preset_recipe(32, photos).batch_size for photos in (20, 32, 5000)] == [20, 32, 32]
    assert preset_recipe(32, 20, batch_size=24).batch_size == 24
