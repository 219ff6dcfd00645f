"""Sampling: one image is a function of its own seed, category and truncation alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models.inference.sample import (
    MAX_SEED,
    even_label,
    latents,
    sample,
)
from models.networks.gan import GanConfig, Generator
from models.networks.pixel_range import to_float, to_uint8


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    config = GanConfig(resolution=32, channels=3, categories=3, generator_width=16)
    return Generator(config).eval()


def test_an_image_depends_on_its_seed_alone(generator: Generator) -> None:
    seeds, labels = list(range(100, 116)), [index % 3 for index in range(16)]
    together = sample(generator, seeds, labels)
    for index, (seed, label) in enumerate(zip(seeds, labels, strict=True)):
        assert np.array_equal(sample(generator, [seed], [label])[0], together[index])


def test_other_seeds_categories_and_truncations_give_other_images(generator: Generator) -> None:
    image = sample(generator, [1], [0])
    assert not np.array_equal(image, sample(generator, [2], [0]))
    assert not np.array_equal(image, sample(generator, [1], [1]))
    assert not np.array_equal(image, sample(generator, [1], [0], truncation=0.5))


def test_images_are_uint8_with_channels_last(generator: Generator) -> None:
    images = sample(generator, [0, MAX_SEED], [0, 2])
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == np.uint8


def test_every_uint8_value_survives_the_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)


def test_values_beyond_the_range_are_clamped_not_wrapped() -> None:
    assert to_uint8(torch.tensor([-1.5, -1.0, 1.0, 1.5])).tolist() == [0, 0, 255, 255]


def test_latents_are_standard_normal_and_independent() -> None:
    values = latents(range(200), 128)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    between_seeds = torch.corrcoef(values).fill_diagonal_(0)
    assert between_seeds.abs().max() < 0.45  # five standard deviations


def test_every_bit_of_a_seed_matters() -> None:
    seeds = [0, *(2**bit for bit in range(63)), MAX_SEED]
    assert len(latents(seeds, 8).unique(dim=0)) == len(seeds)


def test_a_seed_keeps_its_latent_whatever_versions_of_the_libraries_draw_it() -> None:
    drawn = latents([0, 2**32, MAX_SEED], 3).tolist()
    assert drawn == [
        [0.059911035001277924, 0.015559634193778038, -1.1644384860992432],
        [1.0605347156524658, 0.8246030807495117, -0.2944924235343933],
        [0.9518663883209229, -1.0147827863693237, 1.1980888843536377],
    ]


def test_threads_draw_without_disturbing_each_other() -> None:
    seeds = list(range(2000))
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda seed: latents([seed], 64), seeds))
    assert torch.equal(torch.cat(drawn), latents(seeds, 64))


def test_consecutive_seeds_walk_through_all_categories() -> None:
    assert sorted(even_label(seed, 10) for seed in range(37, 47)) == list(range(10))
