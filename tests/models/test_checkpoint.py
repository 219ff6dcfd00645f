"""Checkpoints: what is saved comes back, and what does not fit is refused."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from models.checkpoint import CheckpointError, load_model, load_state, save_model
from models.inference.sample import sample
from models.networks.gan import GanConfig, Generator

CONFIG = GanConfig(resolution=28, categories=2, z_dim=8, embedding_dim=4, generator_width=4)
NAMES = ("hat", "shoe")


@pytest.fixture
def saved() -> bytes:
    return save_model(Generator(CONFIG).eval(), NAMES)


def test_a_loaded_model_makes_the_same_images_to_a_level() -> None:
    torch.manual_seed(0)
    generator = Generator(replace(CONFIG, generator_width=16)).eval()
    # Untrained, it paints grey on grey.
    torch.nn.init.normal_(next(generator.to_image.parameters()))
    model = load_model(save_model(generator, NAMES), torch.device("cpu"))
    assert model.categories == NAMES
    images, loaded = (sample(g, [1, 2], [0, 1]) for g in (generator, model.generator))
    assert images.std() > 30
    assert np.abs(images.astype(int) - loaded).max() <= 1


def test_a_model_is_half_the_bytes_of_its_weights() -> None:
    generator = Generator(replace(CONFIG, generator_width=64))
    size = sum(4 * parameter.numel() for parameter in generator.parameters())
    assert len(save_model(generator, NAMES)) < 0.55 * size


def test_a_loaded_model_is_saved_as_the_same_bytes(saved: bytes) -> None:
    model = load_model(saved, torch.device("cpu"))
    assert save_model(model.generator, NAMES) == saved


def test_equal_models_are_equal_bytes() -> None:
    generator = Generator(CONFIG).eval()
    assert len({save_model(generator, NAMES) for _ in range(20)}) == 1


def test_damaged_bytes_are_refused(saved: bytes) -> None:
    for length in (0, 5, 8, 100, len(saved) - 1):
        with pytest.raises(CheckpointError):
            load_model(saved[:length])


def test_a_model_is_not_a_training_state(saved: bytes) -> None:
    with pytest.raises(CheckpointError, match="vitrine-train-state-3"):
        load_state(saved)


def test_a_header_that_claims_gigabytes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="header is too long"):
        load_model(struct.pack("<Q", 2**40) + b"{}")


def _rewritten(saved: bytes, **config: object) -> bytes:
    length = struct.unpack("<Q", saved[:8])[0]
    metadata = json.loads(saved[8 : 8 + length])["__metadata__"]
    header = json.loads(metadata["vitrine"])
    header["config"] |= config
    return save(load(saved), metadata={"vitrine": json.dumps(header)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"generator_width": 8}, "tensors do not fit"),
        ({"resolution": 31}, "cannot be built"),
        ({"surprise": 1}, "cannot be built"),
        ({"categories": 3}, "do not fit"),
    ],
)
def test_tensors_that_do_not_fit_their_config_are_refused(
    saved: bytes, config: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(_rewritten(saved, **config))


def test_a_tensor_of_a_foreign_type_is_refused() -> None:
    tensors = {"x": torch.zeros(1, dtype=torch.float64)}
    with pytest.raises(CheckpointError, match="type"):
        load_model(save(tensors, metadata={"vitrine": '{"format": "vitrine-generator-2"}'}))
