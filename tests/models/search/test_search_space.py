"""The search space: only what can be built and trained, the presets among it."""

import itertools
import json
import random
from dataclasses import replace
from typing import get_args

import pytest
import torch

from models.data.datasets import Dataset
from models.networks.gan import (
    Discriminator,
    GanConfig,
    Generator,
    Resolution,
)
from models.search.search_space import (
    SPACE,
    Architecture,
    Point,
    allowed,
    build,
    cost,
    decide,
    describe_architecture,
    mutate,
    narrow,
    random_point,
)
from models.training.presets import Preset, preset_config, preset_recipe
from models.training.state import initial_state
from models.training.train import train

CPU = torch.device("cpu")


def preset(name: Preset = "fast", resolution: Resolution = 28, photos: int = 100) -> Architecture:
    return Architecture(
        gan=preset_config(name, resolution, 1, 2), recipe=preset_recipe(resolution, photos)
    )


def in_the_tree(point: Point) -> bool:
    return all(point[name] in allowed(name, point) for name in SPACE)


def test_two_hundred_random_points_are_built_and_trained(squares: Dataset) -> None:
    source = random.Random(0)
    points = [random_point(source) for _ in range(200)]
    for point in points:
        found = build(point, preset())
        # As narrow as can be: what is tried here are the combinations.
        gan = replace(found.gan, generator_width=4, discriminator_width=4, z_dim=4)
        recipe = replace(found.recipe, batch_size=4, penalty_every=1, seed=1)
        state = initial_state(gan, recipe, CPU)
        for progress in itertools.islice(train(state, squares), 2):
            assert all(torch.tensor(value).isfinite() for value in progress.metrics().values())
        assert state.is_finite(), point
    for name, values in SPACE.items():
        assert {point[name] for point in points} == set(values)


@pytest.mark.parametrize("name", get_args(Preset))
@pytest.mark.parametrize("resolution", [28, 32, 64])
@pytest.mark.parametrize("photos", [100, 60_000])
def test_the_presets_are_points(name: Preset, resolution: Resolution, photos: int) -> None:
    start = preset(name, resolution, photos)
    point = start.point()
    assert in_the_tree(point)
    assert build(point, start).gan == start.gan
    assert build(point, start).recipe.augment_p_at(10**9) == start.recipe.augment_p_at(10**9)


def test_both_families_are_points() -> None:
    dcgan = decide(lambda name, values: {"family": "dcgan"}.get(name, values[-1]))
    gan = build(dcgan, preset()).gan
    assert (gan.family, gan.discriminator_norm) == ("dcgan", "batch")
    assert build(dcgan, preset()).recipe.gamma == 0


def test_a_mutation_is_another_point_that_differs_in_one_choice() -> None:
    source = random.Random(1)
    point = preset().point()
    for _ in range(500):
        neighbour = mutate(point, source)
        assert in_the_tree(neighbour)
        changed = [name for name in SPACE if neighbour[name] != point[name]]
        assert changed
        if neighbour["family"] == point["family"]:
            # Batch norm and penalties exclude each other, and may change together.
            assert len(changed) == 1 or changed == ["discriminator_norm", "gamma"]
        point = neighbour


def test_equal_seeds_give_equal_points() -> None:
    first, second = (random.Random(7) for _ in range(2))
    assert [random_point(first) for _ in range(5)] == [random_point(second) for _ in range(5)]


def test_a_point_survives_json() -> None:
    source = random.Random(2)
    for _ in range(50):
        point = random_point(source)
        found = build(json.loads(json.dumps(point)), preset())
        assert found.point() == point
        assert build(found.point(), preset()) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 7}, "depth must be one of"),
        ({"discriminator_norm": "batch"}, "discriminator_norm must be one of"),
        ({"family": "dcgan", "attention": True}, "attention must be one of"),
        ({"family": "dcgan", "discriminator_norm": "batch", "gamma": 1.0}, "gamma must be one of"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(change: Point, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(preset().point() | change, preset())


def test_a_point_that_lacks_a_choice_is_refused() -> None:
    point = preset().point()
    del point["lr"]
    with pytest.raises(ValueError, match="lr is missing"):
        build(point, preset())


def test_the_cost_is_that_of_the_real_networks() -> None:
    gan = GanConfig(
        family="residual", resolution=32, discriminator_norm="none", generator_width=8,
        discriminator_width=8, attention=True,
    )  # fmt: skip
    weight = cost(gan)
    assert weight.generator_parameters == sum(p.numel() for p in Generator(gan).parameters())
    assert weight.discriminator_parameters == sum(
        p.numel() for p in Discriminator(gan).parameters()
    )


def test_the_operations_of_a_dcgan_generator_are_those_counted_by_hand() -> None:
    gan = GanConfig(resolution=28, channels=1, categories=2, z_dim=8, embedding_dim=4,
                    generator_width=4)  # fmt: skip
    stem = 12 * 8 * 7 * 7  # z and embedding to 8 maps of 7 x 7
    # A transposed 4x4 convolution touches every tap for every input place.
    first, last = 8 * 4 * 16 * 7 * 7, 4 * 1 * 16 * 14 * 14
    assert cost(gan).generator_flops == 2 * (stem + first + last)


def test_the_description_names_what_was_chosen() -> None:
    point = preset().point() | {"attention": True, "gamma": 0.6}
    text = describe_architecture(build(point, preset()))
    for words in ("generator_width 24", "attention True", "gamma 0.6,", "alpha 0.5,"):
        assert words in text
    weight = cost(build(point, preset()).gan)
    assert f"{weight.generator_parameters / 1e6:.2f} + " in text


def test_a_narrowed_space_is_kept_to_as_far_as_the_tree_allows() -> None:
    narrowed = narrow({"family": ["dcgan"], "depth": [2, 1], "attention": [True], "lr": [2e-4]})
    assert narrowed["depth"] == (1, 2)
    source = random.Random(0)
    residual = {**random_point(source), "family": "residual"}
    for point in (random_point(source, narrowed), mutate(residual, source, narrowed)):
        assert (point["family"], point["lr"]) == ("dcgan", 2e-4)
        build(point, preset())
        # Attention is for residual networks alone, whatever was asked for.
        assert point["attention"] is False


def test_a_space_of_one_point_has_no_neighbours() -> None:
    point = random_point(random.Random(0))
    narrowed = narrow({name: [value] for name, value in point.items()})
    assert mutate(point, random.Random(1), narrowed) == point
