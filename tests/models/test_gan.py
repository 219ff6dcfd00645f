"""The networks: shapes at every resolution, conditioning, and what a config refuses."""

from typing import get_args

import pytest
import torch

from models.gan import (
    Discriminator,
    DiscriminatorNorm,
    GanConfig,
    Generator,
    Resolution,
    preset_config,
)


def tiny(resolution: Resolution, norm: DiscriminatorNorm = "spectral") -> GanConfig:
    return GanConfig(
        resolution=resolution, categories=2, z_dim=8, embedding_dim=4, generator_width=4,
        discriminator_width=4, discriminator_norm=norm,
    )  # fmt: skip


@pytest.mark.parametrize("resolution", [28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_fit_every_resolution_on_offer(resolution: Resolution, channels: int) -> None:
    config = GanConfig(
        resolution=resolution, channels=channels, categories=3, generator_width=4,
        discriminator_width=4,
    )  # fmt: skip
    labels = torch.tensor([0, 2])
    images = Generator(config)(torch.randn(2, config.z_dim), labels)
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert Discriminator(config)(images, labels).shape == (2,)


def test_the_category_changes_what_both_networks_answer() -> None:
    config = tiny(28)
    generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
    z = torch.randn(1, 8)
    left, right = (generator(z, torch.tensor([label])) for label in (0, 1))
    assert not torch.equal(left, right)
    logits = [discriminator(left, torch.tensor([label])) for label in (0, 1)]
    assert not torch.equal(*logits)


def test_the_spectral_discriminator_is_lipschitz_where_batch_norm_is_not_used() -> None:
    config = tiny(28)
    discriminator = Discriminator(config).train()
    images = torch.randn(4, 1, 28, 28)
    for _ in range(30):  # the power iteration converges over forward passes
        discriminator(images, torch.zeros(4, dtype=torch.int64))
    weight = discriminator.get_submodule("blocks.0.0").weight
    assert isinstance(weight, torch.Tensor)
    singular_value = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(singular_value, torch.tensor(1.0), rtol=0.02, atol=0)


@pytest.mark.parametrize("norm", get_args(DiscriminatorNorm))
def test_an_untrained_discriminator_is_undecided(norm: DiscriminatorNorm) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(GanConfig(resolution=32, discriminator_norm=norm))
    logits = discriminator(torch.rand(64, 1, 32, 32) * 2 - 1, torch.arange(64) % 10)
    assert logits.abs().max() < 20


def test_the_batch_norm_discriminator_has_no_spectral_norm() -> None:
    config = tiny(32, "batch")
    names = [name for name, _ in Discriminator(config).named_modules()]
    assert not any("parametrizations" in name for name in names)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in Discriminator(config).modules())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 48),
        ("channels", 2),
        ("categories", 0),
        ("z_dim", -1),
        ("generator_width", 100_000),
        ("discriminator_norm", "layer"),
    ],
)
def test_an_impossible_config_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        GanConfig(**{field: value})  # type: ignore[arg-type] # wrong on purpose


def test_a_better_preset_is_a_wider_pair() -> None:
    widths = [
        preset_config(preset, 64, 3, 10).generator_width for preset in ("fast", "balanced", "best")
    ]
    assert widths == sorted(set(widths))
