"""The presets: every one can be built, trained and afforded."""

import itertools
from typing import get_args

import pytest
import torch

from models.datasets import Dataset
from models.gan import Resolution
from models.presets import FEW_PHOTOS, Preset, preset_config, preset_recipe
from models.state import initial_state
from models.train import train

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


def test_small_data_sets_are_augmented_and_large_ones_are_not() -> None:
    assert preset_recipe(64, FEW_PHOTOS - 1).augment_p > 0
    assert preset_recipe(64, FEW_PHOTOS).augment_p == 0


def test_a_caller_may_change_the_recipe() -> None:
    recipe = preset_recipe(64, 100, loss="hinge", augment_p=0.1)
    assert (recipe.loss, recipe.augment_p) == ("hinge", 0.1)
