"""The adversarial losses against answers known by hand."""

import math

import torch

from models import losses


def test_an_undecided_discriminator_loses_log_two_on_each_side() -> None:
    undecided = torch.zeros(5)
    loss = losses.classic_discriminator_loss(undecided, undecided)
    torch.testing.assert_close(loss, torch.tensor(2 * math.log(2)))
    torch.testing.assert_close(losses.classic_generator_loss(undecided), torch.tensor(math.log(2)))


def test_the_losses_equal_the_formula_in_probabilities() -> None:
    real, fake = torch.randn(64), torch.randn(64)
    expected = -(torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean())
    torch.testing.assert_close(losses.classic_discriminator_loss(real, fake), expected)
    torch.testing.assert_close(
        losses.classic_generator_loss(fake), -torch.sigmoid(fake).log().mean()
    )


def test_a_certain_discriminator_gives_large_but_finite_losses() -> None:
    certain = torch.tensor([200.0])
    assert losses.classic_generator_loss(-certain) == 200
    assert losses.classic_discriminator_loss(-certain, certain) == 400


def test_alpha_moves_the_learning_rate_from_one_network_to_the_other() -> None:
    assert losses.learning_rates(1e-3, 0.5) == (1e-3, 1e-3)
    generator, discriminator = losses.learning_rates(3e-4, 1 / 3)
    assert math.isclose(discriminator, 2 * generator)
    assert math.isclose(generator + discriminator, 6e-4)
