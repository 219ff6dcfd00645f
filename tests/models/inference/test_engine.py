"""Inference engines: images match the network's, and their bits do not depend on the batch."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.imaging.pixels import Pixels
from models.inference.engine import (
    Engine,
    NetworkEngine,
    agrees,
    open_engine,
)
from models.inference.engine_cuda import equal_prefix_length
from models.inference.engine_onnx import OnnxEngine
from models.inference.sample import latents, sample
from models.networks.gan import GanConfig, Generator, Resolution
from models.search.search_space import Architecture, build
from models.search.search_space import random_point as point_at_random
from models.training.presets import preset_config, preset_recipe


def generator_of(config: GanConfig) -> Generator:
    """An untrained generator with batch norm statistics and contrast like a trained one's."""
    torch.manual_seed(0)
    generator = Generator(config)
    generator.train()
    for _ in range(20):
        generator(torch.randn(16, config.z_dim), torch.arange(16) % config.categories)
    for parameter in generator.to_image.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return generator.eval().requires_grad_(False)


def levels_apart(first: Pixels, second: Pixels) -> int:
    return int(np.abs(first.astype(np.int16) - second).max())


@pytest.mark.parametrize("family", ["dcgan", "residual"])
@pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (32, 3), (64, 3), (128, 3)])
def test_the_fast_path_paints_what_the_network_paints(
    family: str, resolution: Resolution, channels: int
) -> None:
    base = preset_config("fast", resolution, channels, 4)
    config = base if family == "residual" else GanConfig(**{**vars(base), "family": "dcgan"})
    generator = generator_of(replace(config, generator_width=8))
    engine = open_engine(generator)
    assert isinstance(engine, OnnxEngine)
    seeds, labels = range(engine.batch), [index % 4 for index in range(engine.batch)]
    images = engine(latents(seeds, config.z_dim), torch.tensor(labels))
    assert images.shape == (engine.batch, resolution, resolution, channels)
    assert images.std() > 5  # not one grey
    assert levels_apart(images, sample(generator, seeds, labels)) <= 1


def test_every_kind_of_layer_that_a_search_may_choose_has_its_fast_path() -> None:
    source = random.Random(1)
    start = Architecture(gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100))
    for _ in range(12):
        found = build(point_at_random(source), start).gan
        generator = generator_of(replace(found, generator_width=8, z_dim=8))
        assert open_engine(generator).name == "onnxruntime", found


@pytest.mark.parametrize("resolution", [32, 64])
def test_an_image_is_the_same_to_the_bit_in_any_company(resolution: Resolution) -> None:
    config = preset_config("fast", resolution, 3, 4)
    engine = open_engine(generator_of(config))
    z, labels = latents(range(40), config.z_dim), torch.arange(40) % 4
    alone = [engine(z[i : i + 1], labels[i : i + 1])[0] for i in range(40)]
    chance = random.Random(2)
    for _ in range(12):
        chosen = chance.sample(range(40), chance.randint(1, engine.batch))
        among_others = engine(z[chosen], labels[chosen])
        for image, index in zip(among_others, chosen, strict=True):
            assert np.array_equal(image, alone[index])


class Faulty:
    """An engine that errs by `error` levels, only in batches of several if `by_company`."""

    name = "faulty"
    batch = 4

    def __init__(self, network: Engine, error: int, *, by_company: bool) -> None:
        self.config = network.config
        self.network, self.error, self.by_company = network, error, by_company

    def __call__(self, z: Tensor, labels: Tensor) -> Pixels:
        error = self.error * (len(labels) > 1) if self.by_company else self.error
        return (self.network(z, labels) // 2 + error).astype(np.uint8)


def test_an_engine_that_errs_or_minds_its_company_is_not_used() -> None:
    config = GanConfig(resolution=28, z_dim=8, generator_width=8)
    network = NetworkEngine(generator_of(config))
    halved = Faulty(network, 0, by_company=False)  # as wrong as the network's double
    assert agrees(halved, halved)
    assert agrees(Faulty(network, 1, by_company=False), halved)
    assert not agrees(Faulty(network, 2, by_company=False), halved)
    assert not agrees(Faulty(network, 1, by_company=True), halved)


def test_where_no_engine_agrees_the_network_computes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generator = generator_of(GanConfig(resolution=28, z_dim=8, generator_width=8))
    monkeypatch.setattr("models.inference.engine.TOLERANCE", -1)
    engine = open_engine(generator)
    assert (engine.name, engine.batch) == ("torch", 1)
    assert "onnxruntime" in caplog.text
    z, labels = latents([7], 8), torch.tensor([3])
    assert np.array_equal(engine(z, labels), sample(generator, [7], [3]))


def test_the_slots_of_a_batch_that_compute_alike_are_counted_from_the_first() -> None:
    images = torch.rand(1, 3, 4, 4).expand(6, -1, -1, -1).clone()
    assert equal_prefix_length(images) == 6
    images[4, 2, 1, 1] += 1e-6
    assert equal_prefix_length(images) == 4
    images[1] += 1
    assert equal_prefix_length(images) == 1


def test_nobody_is_told_of_what_is_computed(tmp_path: Path) -> None:
    code = (
        "from models.inference.engine import open_engine;"
        "from models.networks.gan import GanConfig, Generator;"
        "print(open_engine(Generator(GanConfig(generator_width=4)).eval()).name)"
    )
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | home, capture_output=True, text=True
    )
    assert done.stdout.strip() == "onnxruntime", done.stderr
    # Telemetry would keep an id here.
    assert list(tmp_path.iterdir()) == []
