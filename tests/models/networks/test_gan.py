"""The networks: shapes at every resolution, conditioning, and what a config refuses."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from models.networks.gan import (
    Discriminator,
    DiscriminatorNorm,
    Family,
    GanConfig,
    Generator,
    Resolution,
)
from models.networks.layers import ResidualDown, ResidualUp, SelfAttention


def tiny(
    resolution: Resolution, norm: DiscriminatorNorm = "spectral", family: Family = "dcgan"
) -> GanConfig:
    return GanConfig(
        family=family, resolution=resolution, categories=2, z_dim=8, embedding_dim=4,
        generator_width=4, discriminator_width=4, discriminator_norm=norm,
    )  # fmt: skip


@pytest.mark.parametrize("resolution", [28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", get_args(Family))
def test_images_fit_every_resolution_on_offer(
    resolution: Resolution, channels: int, family: Family
) -> None:
    config = GanConfig(
        family=family, resolution=resolution, channels=channels, categories=3, generator_width=4,
        discriminator_width=4,
    )  # fmt: skip
    labels = torch.tensor([0, 2])
    images = Generator(config)(torch.randn(2, config.z_dim), labels)
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert Discriminator(config)(images, labels).shape == (2,)


@pytest.mark.parametrize("family", get_args(Family))
def test_the_category_changes_what_both_networks_answer(family: Family) -> None:
    config = tiny(28, family=family)
    generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
    z = torch.randn(1, 8)
    left, right = (generator(z, torch.tensor([label])) for label in (0, 1))
    assert not torch.equal(left, right)
    logits = [discriminator(left, torch.tensor([label])) for label in (0, 1)]
    assert not torch.equal(*logits)


def test_the_spectral_discriminator_is_lipschitz_where_batch_norm_is_not_used() -> None:
    torch.manual_seed(0)
    config = tiny(28)
    discriminator = Discriminator(config).train()
    images = torch.randn(4, 1, 28, 28)
    for _ in range(200):  # the power iteration converges over forward passes
        discriminator(images, torch.zeros(4, dtype=torch.int64))
    weight = discriminator.get_submodule("blocks.0.0").weight
    assert isinstance(weight, torch.Tensor)
    singular_value = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(singular_value, torch.tensor(1.0), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("family", "norm"),
    [*(("dcgan", norm) for norm in get_args(DiscriminatorNorm))]
    + [("residual", "none"), ("residual", "spectral")],
)
def test_an_untrained_discriminator_is_undecided(family: Family, norm: DiscriminatorNorm) -> None:
    torch.manual_seed(0)
    config = GanConfig(family=family, resolution=32, discriminator_norm=norm)
    discriminator = Discriminator(config)
    logits = discriminator(torch.rand(64, 1, 32, 32) * 2 - 1, torch.arange(64) % 10)
    assert logits.abs().max() < 20


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_a_residual_logit_is_its_own_images_alone(norm: DiscriminatorNorm) -> None:
    discriminator = Discriminator(tiny(32, norm, "residual")).train()
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 0, 1])
    discriminator.eval()  # spectral norm's power iteration stands still
    logits = discriminator(images, labels)
    changed = torch.cat([images[:1], torch.randn(3, 1, 32, 32)])
    torch.testing.assert_close(discriminator(changed, labels)[0], logits[0])


def test_a_residual_generator_is_a_strided_one_around_a_skip() -> None:
    block = ResidualUp(4, 2).eval()
    torch.nn.init.zeros_(block.get_parameter("convs.0.2.weight"))
    x = torch.randn(1, 4, 3, 3)
    expected = block.skip(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(block(x), expected)


def test_a_residual_down_block_begins_as_its_strided_convolution() -> None:
    block = ResidualDown(2, 4, spectral=False)
    x = torch.randn(1, 2, 8, 8)
    expected = block.down(torch.nn.functional.leaky_relu(x, 0.2))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("resolution", get_args(Resolution))
def test_every_choice_of_the_residual_family_fits_every_resolution(resolution: Resolution) -> None:
    config = replace(
        tiny(resolution, "none", "residual"), depth=2, upsampling="nearest", downsampling="pooled",
        generator_norm="none", attention=True,
    )  # fmt: skip
    labels, discriminator = torch.tensor([0, 1]), Discriminator(config)
    images = Generator(config)(torch.randn(2, 8), labels)
    assert images.shape == (2, 1, resolution, resolution)
    logits = discriminator(images, labels)
    assert logits.shape == (2,)
    for network in (Generator(config), discriminator):
        assert sum(isinstance(module, SelfAttention) for module in network.modules()) == 1


def test_attention_begins_as_the_identity_and_has_a_second_derivative() -> None:
    block = SelfAttention(8)
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    torch.testing.assert_close(block(x), x)
    torch.nn.init.ones_(block.strength)
    assert not torch.equal(block(x), x)
    (slope,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert block.get_parameter("query.weight").grad is not None


def test_attention_moves_with_its_places() -> None:
    block = SelfAttention(8)
    torch.nn.init.ones_(block.strength)
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x.flip(2)), block(x).flip(2))


def test_a_residual_discriminator_with_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="spectral or none"):
        tiny(32, "batch", "residual")


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
        ("family", "stylegan"),
        ("depth", 4),
        ("depth", 0),  # the dcgan family has none to choose
        ("attention", True),
        ("upsampling", "bicubic"),
        ("downsampling", "max"),
        ("generator_norm", "spectral"),
    ],
)
def test_an_impossible_config_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        GanConfig(**{field: value})  # type: ignore[arg-type] # wrong on purpose
