"""The adversarial losses and the gradient penalty against answers known by hand."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from models.training import losses
from models.training.losses import LOSSES, Loss

ZERO = torch.zeros(5)


def known(loss: Loss) -> tuple[float, float]:
    """Losses of generator and discriminator where every logit is zero."""
    return {
        "classic": (math.log(2), 2 * math.log(2)),
        "hinge": (0.0, 2.0),
        "relativistic": (math.log(2), math.log(2)),
    }[loss]


@pytest.mark.parametrize("loss", get_args(Loss))
def test_an_undecided_discriminator_gives_known_losses(loss: Loss) -> None:
    generator, discriminator = LOSSES[loss].generator, LOSSES[loss].discriminator
    expected = known(loss)
    assert float(generator(ZERO, ZERO)) == pytest.approx(expected[0])
    assert float(discriminator(ZERO, ZERO)) == pytest.approx(expected[1])


def test_the_classic_losses_equal_the_formula_in_probabilities() -> None:
    real, fake = torch.randn(64), torch.randn(64)
    expected = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    torch.testing.assert_close(losses.classic_discriminator_loss(real, fake), expected)
    torch.testing.assert_close(
        losses.classic_generator_loss(real, fake), -torch.sigmoid(fake).log().mean()
    )


def test_the_hinge_is_indifferent_beyond_its_margin() -> None:
    real, fake = torch.tensor([1.0, 7.0]), torch.tensor([-1.0, -9.0])
    assert losses.hinge_discriminator_loss(real, fake) == 0
    assert losses.hinge_discriminator_loss(real - 0.5, fake + 1.5) == 0.25 + 0.75
    assert losses.hinge_generator_loss(real, fake) == 5


def test_the_relativistic_losses_see_differences_alone_and_mirror_each_other() -> None:
    real, fake = torch.randn(64), torch.randn(64)
    loss = losses.relativistic_discriminator_loss(real, fake)
    torch.testing.assert_close(losses.relativistic_discriminator_loss(real + 9, fake + 9), loss)
    torch.testing.assert_close(losses.relativistic_generator_loss(fake, real), loss)
    torch.testing.assert_close(loss, -torch.sigmoid(real - fake).log().mean())


@pytest.mark.parametrize("loss", get_args(Loss))
def test_each_network_wants_the_opposite(loss: Loss) -> None:
    real, fake = ZERO.clone().requires_grad_(), ZERO.clone().requires_grad_()
    LOSSES[loss].discriminator(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    (gradient,) = torch.autograd.grad(LOSSES[loss].generator(ZERO, fake), fake)
    assert (gradient < 0).all()


@pytest.mark.parametrize("loss", get_args(Loss))
def test_a_generator_loss_uses_real_logits_where_it_says_so(loss: Loss) -> None:
    values = {float(LOSSES[loss].generator(real, ZERO)) for real in (ZERO, ZERO + 1)}
    assert (len(values) == 2) == LOSSES[loss].relative


def test_a_certain_discriminator_gives_large_but_finite_losses() -> None:
    certain = torch.tensor([200.0])
    assert losses.classic_generator_loss(certain, -certain) == 200
    assert losses.classic_discriminator_loss(-certain, certain) == 400
    assert losses.relativistic_generator_loss(certain, -certain) == 400


def test_the_penalty_of_a_linear_discriminator_is_its_squared_norm() -> None:
    weight = torch.randn(3, 8, 8)
    images = torch.randn(5, 3, 8, 8, requires_grad=True)
    penalty = losses.gradient_penalty(images, (images * weight).sum(dim=(1, 2, 3)))
    torch.testing.assert_close(penalty, weight.square().sum().expand(5))


def test_the_penalty_can_be_minimised() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    images = torch.randn(4, 1, 2, 2, requires_grad=True)
    logits: Tensor = scale * images.sum(dim=(1, 2, 3))
    losses.gradient_penalty(images, logits).mean().backward()
    torch.testing.assert_close(scale.grad, torch.tensor(2 * 3.0 * 4))  # of 4 scale^2


def test_alpha_moves_the_learning_rate_from_one_network_to_the_other() -> None:
    assert losses.learning_rates(1e-3, 0.5) == (1e-3, 1e-3)
    generator, discriminator = losses.learning_rates(3e-4, 1 / 3)
    assert math.isclose(discriminator, 2 * generator)
    assert math.isclose(generator + discriminator, 6e-4)
