"""One adversarial training step: updates the discriminator, then the generator.

The generator's gradient comes through the updated discriminator. Both use the same fake images,
which are therefore generated once.

Shapes: N batch, C image channels, R resolution in pixels, Z latent.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.layers import mixed_precision
from models.training.augment import augment
from models.training.data_order import DataOrder
from models.training.losses import LOSSES, gradient_penalty
from models.training.remedies import add_noise, running_accuracy
from models.training.state import TrainState


@dataclass(frozen=True)
class Outcome:
    """Results of a step: scalars that stay on the device until they are read."""

    loss_generator: Tensor
    loss_discriminator: Tensor
    real_logit: Tensor  # mean
    fake_logit: Tensor
    accuracy: Tensor  # of the discriminator before its update, in [0, 1]


def take_step(state: TrainState, order: DataOrder, random: torch.Generator) -> Outcome:
    """Update the discriminator `remedies.steps_at` times, then the generator and its EMA once."""
    state.set_rates()
    for _ in range(state.config.remedies.steps_at(state.images) - 1):
        real, labels = _next_batch(state, order, random)
        with torch.no_grad():
            fake = _generate(state, labels, random)
        _update_discriminator(state, real, fake, labels, random)
    real, labels = _next_batch(state, order, random)
    fake = _generate(state, labels, random)
    loss_discriminator, real_logits, fake_logits = _update_discriminator(
        state, real, fake.detach(), labels, random
    )
    loss_generator = _update_generator(state, real, fake, labels, random)
    state.step += 1
    state.update_ema()
    accuracy = LOSSES[state.config.loss].accuracy(real_logits, fake_logits)
    state.accuracy = running_accuracy(state.accuracy, accuracy)
    return Outcome(
        loss_generator, loss_discriminator, real_logits.mean(), fake_logits.mean(), accuracy
    )


def _next_batch(
    state: TrainState, order: DataOrder, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    size = state.config.batch_size
    batch = order.batch(state.images, size, random)
    state.images += size
    return batch


def _generate(state: TrainState, labels: Tensor, random: torch.Generator) -> Tensor:
    """Generate one image (N, C, R, R) for each of `labels`, attached to the autograd graph."""
    z = torch.randn((len(labels), state.generator.config.z_dim), generator=random)
    fake: Tensor = state.generator(z.to(state.device), labels)
    return fake


def _update_discriminator(
    state: TrainState, real: Tensor, fake: Tensor, labels: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One optimiser step; returns the adversarial loss, and real and fake logits (N,)."""
    config = state.config
    gamma = config.gamma_at(state.images)
    # Lazy regularisation ("Analyzing and Improving the Image Quality of StyleGAN" - Karras et al.,
    # 2020): every `penalty_every` steps, with a weight larger by that factor.
    penalised = gamma > 0 and state.step % config.penalty_every == 0
    images = torch.cat([real, fake]).requires_grad_(penalised)
    # bf16 is too coarse for squared gradients.
    with mixed_precision(state.device, enabled=False) if penalised else nullcontext():
        # DCGAN normalises real and fake batches separately, as in the generator's step.
        apart = state.generator.config.discriminator_norm == "batch"
        parts = images.chunk(2) if apart else (images,)
        labels_of_part = labels if apart else labels.repeat(2)
        logits = torch.cat([_logits(state, part, labels_of_part, random) for part in parts])
    real_logits, fake_logits = logits.chunk(2)
    adversarial = LOSSES[config.loss].discriminator(real_logits, fake_logits)
    loss = adversarial
    if penalised:
        # gamma / 2 (R1 + R2), each the mean over its half.
        penalty = gamma * gradient_penalty(images, logits).mean()
        loss = loss + config.penalty_every * penalty
    _descend(state.optimizer_discriminator, loss, config.remedies.clip_norm)
    return adversarial.detach(), real_logits.detach(), fake_logits.detach()


def _update_generator(
    state: TrainState, real: Tensor, fake: Tensor, labels: Tensor, random: torch.Generator
) -> Tensor:
    """One optimiser step; returns the loss. `fake` is attached to the generator's graph."""
    loss = LOSSES[state.config.loss]
    state.discriminator.requires_grad_(False)
    fake_logits = _logits(state, fake, labels, random)
    real_logits = fake_logits
    if loss.relative:
        with torch.no_grad():
            real_logits = _logits(state, real, labels, random)
    loss_generator = loss.generator(real_logits, fake_logits)
    _descend(state.optimizer_generator, loss_generator, state.config.remedies.clip_norm)
    state.discriminator.requires_grad_(True)
    return loss_generator.detach()


def _logits(state: TrainState, images: Tensor, labels: Tensor, random: torch.Generator) -> Tensor:
    """Discriminator logits (N,) of images after instance noise and augmentation."""
    images = add_noise(images, state.config.remedies.noise_at(state.images), random)
    images = augment(images, state.config.augment_p_at(state.images), random)
    logits: Tensor = state.discriminator(images, labels)
    return logits


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float) -> None:
    """One optimiser step on `loss`; clips the gradient to `clip_norm` unless that is 0."""
    optimizer.zero_grad()
    loss.backward()
    if clip_norm > 0:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
