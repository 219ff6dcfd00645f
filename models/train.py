"""Training one generator-discriminator pair: a generator that yields after each step.

Everything random in step k (data order, z, flips) is a function of (seed, k) alone. A training that
goes on from a saved state therefore equals an uninterrupted one, bit for bit on the CPU.

Exponential moving average of the generator: "The Unusual Effectiveness of Averaging in GAN
Training" - Yazici et al., 2019 (https://arxiv.org/abs/1806.04498).

Shapes: N batch, C image channels, R resolution in pixels.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam

from models.augment import augment
from models.data_order import DataOrder, seeded
from models.datasets import Dataset
from models.gan import Discriminator, GanConfig, Generator
from models.layers import best_device, has_fast_bf16, mixed_precision
from models.losses import LOSSES, Loss, gradient_penalty, learning_rates


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one pair is trained. It stops at `max_images` or `max_seconds`, whichever comes first."""

    batch_size: int = 64
    max_images: int = 500_000  # real images shown to the discriminator
    max_seconds: float = 3600.0  # of training, over all attempts
    lr: float = 3e-4
    alpha: float = 1 / 3  # weight of L_G; see `losses.learning_rates`
    betas: tuple[float, float] = (0.0, 0.9)
    ema_half_life: int = 20_000  # images
    loss: Loss = "classic"
    gamma: float = 0.0  # weight of the gradient penalties R1 + R2; 0 leaves them out
    penalty_every: int = 16  # steps
    augment_p: float = 0.0  # probability of each augmentation inside the discriminator
    flip: bool = False  # mirror half of the real images
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "max_images",
            "max_seconds",
            "lr",
            "ema_half_life",
            "penalty_every",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm needs a second image")
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}")
        if self.gamma < 0 or not 0 <= self.augment_p <= 1:
            raise ValueError(
                f"gamma must be at least 0, augment_p in [0, 1]; got {self.gamma}, {self.augment_p}"
            )
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1); got {self.alpha}")


class Diverged(ArithmeticError):
    """A loss is no longer finite; the message names the step."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step; the losses stay on the device until they are read."""

    step: int
    images: int
    seconds: float  # of training so far, over all attempts
    fraction: float  # done, in [0, 1]
    loss_generator: Tensor
    loss_discriminator: Tensor
    real_logits: Tensor
    fake_logits: Tensor

    def metrics(self) -> dict[str, float]:
        """The numbers to report.

        Raises:
            Diverged: a loss is NaN or infinite.
        """
        values = {
            "loss_generator": float(self.loss_generator),
            "loss_discriminator": float(self.loss_discriminator),
            "real_logit": float(self.real_logits.mean()),
            "fake_logit": float(self.fake_logits.mean()),
            "discriminator_accuracy": float(
                torch.cat([self.real_logits > 0, self.fake_logits <= 0]).float().mean()
            ),
        }
        for name in ("loss_generator", "loss_discriminator"):
            if not abs(values[name]) < float("inf"):
                raise Diverged(f"{name} is {values[name]} at step {self.step}")
        return values


class TrainState:
    """Networks, EMA, optimisers and counters: all that a training needs to go on."""

    def __init__(self, gan: GanConfig, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.step = 0
        self.seconds = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator, discriminator = Generator(gan), Discriminator(gan)
        # The shape overload of Module.to is missing from torch's annotations.
        layout = {"memory_format": torch.channels_last}
        self.generator = generator.to(device).to(**layout)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(device).to(**layout)  # type: ignore[call-overload]
        self.ema: Generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        lr_generator, lr_discriminator = learning_rates(config.lr, config.alpha)
        self.optimizer_generator = Adam(
            self.generator.parameters(), lr_generator, config.betas, fused=True
        )
        self.optimizer_discriminator = Adam(
            self.discriminator.parameters(), lr_discriminator, config.betas, fused=True
        )

    @property
    def images(self) -> int:
        """Real images shown so far."""
        return self.step * self.config.batch_size

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, in [0, 1]."""
        spent = max(self.images / self.config.max_images, self.seconds / self.config.max_seconds)
        return min(spent, 1.0)


def initial_state(
    gan: GanConfig, config: TrainConfig, device: torch.device | None = None
) -> TrainState:
    """A training that has not begun; equal weights for equal seeds."""
    return TrainState(gan, config, device or best_device())


def train(state: TrainState, dataset: Dataset) -> Iterator[Progress]:
    """Train `state` in place from where it stands, yielding after each step.

    Raises:
        ValueError: the data set does not fit the networks or is smaller than a batch.
    """
    gan, config = state.generator.config, state.config
    if dataset.images.shape[1:] != (gan.channels, gan.resolution, gan.resolution):
        raise ValueError(f"images {tuple(dataset.images.shape[1:])} do not fit {gan}")
    if len(dataset.labels) < config.batch_size:
        raise ValueError(
            f"batch_size {config.batch_size} is larger than the data set, {len(dataset.labels)}"
        )
    if config.gamma > 0 and gan.discriminator_norm == "batch":
        raise ValueError("batch norm ties the images of a batch together: set gamma to 0")
    order = DataOrder(dataset, batch_size=config.batch_size, flip=config.flip, seed=config.seed)
    bf16 = has_fast_bf16(state.device)
    while state.fraction < 1:
        started = time.perf_counter()
        random = seeded(config.seed, state.step)
        images, labels = order.batch(state.step, random, state.device)
        with mixed_precision(state.device, enabled=bf16):
            losses = _step(state, images, labels, random)
        state.step += 1
        state.seconds += time.perf_counter() - started
        yield Progress(state.step, state.images, state.seconds, state.fraction, *losses)


def _step(
    state: TrainState, real: Tensor, labels: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One discriminator and one generator update; losses and logits, real before fake."""
    shape = (2, len(real), state.generator.config.z_dim)
    z_discriminator, z_generator = torch.randn(shape, generator=random).to(state.device)
    with torch.no_grad():
        fake = state.generator(z_discriminator, labels)
    loss_discriminator, logits = _update_discriminator(state, real, fake, labels, random)
    loss_generator = _update_generator(state, real, z_generator, labels, random)
    _update_ema(state)
    real_logits, fake_logits = logits.chunk(2)
    return loss_generator, loss_discriminator, real_logits, fake_logits


def _update_discriminator(
    state: TrainState, real: Tensor, fake: Tensor, labels: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Its adversarial loss, and the logits of real and fake images in one row."""
    config = state.config
    # Lazy ("Analyzing and Improving the Image Quality of StyleGAN" - Karras et al., 2020): every
    # `penalty_every` steps, weighted as much more.
    penalised = config.gamma > 0 and state.step % config.penalty_every == 0
    # One pass over both halves, so that batch norm cannot tell real from fake by their batches.
    images = torch.cat([real, fake]).requires_grad_(penalised)
    # A squared gradient in bf16 would be noise.
    with mixed_precision(state.device, enabled=False) if penalised else nullcontext():
        augmented = augment(images, config.augment_p, random)
        logits = state.discriminator(augmented, torch.cat([labels, labels]))
    adversarial = LOSSES[config.loss].discriminator(*logits.chunk(2))
    loss = adversarial
    if penalised:
        # gamma / 2 (R1 + R2), each the mean over its half.
        penalty = config.gamma * gradient_penalty(images, logits).mean()
        loss = loss + config.penalty_every * penalty
    state.optimizer_discriminator.zero_grad()
    loss.backward()
    state.optimizer_discriminator.step()
    return adversarial.detach(), logits.detach()


def _update_generator(
    state: TrainState, real: Tensor, z: Tensor, labels: Tensor, random: torch.Generator
) -> Tensor:
    """Its loss."""
    config, discriminator, loss = state.config, state.discriminator, LOSSES[state.config.loss]
    discriminator.requires_grad_(False)
    fake = state.generator(z, labels)
    fake_logits = discriminator(augment(fake, config.augment_p, random), labels)
    real_logits = fake_logits
    if loss.generator_needs_real:
        with torch.no_grad():
            real_logits = discriminator(augment(real, config.augment_p, random), labels)
    loss_generator = loss.generator(real_logits, fake_logits)
    discriminator.requires_grad_(True)
    state.optimizer_generator.zero_grad()
    loss_generator.backward()
    state.optimizer_generator.step()
    return loss_generator.detach()


@torch.no_grad()
def _update_ema(state: TrainState) -> None:
    """Average the weights, copy the buffers; a tenth of a young training is its half-life."""
    half_life = min(state.config.ema_half_life, 0.1 * (state.images + state.config.batch_size))
    keep = 0.5 ** (state.config.batch_size / half_life)
    averages: list[Tensor] = list(state.ema.parameters())
    weights: list[Tensor] = list(state.generator.parameters())
    torch._foreach_lerp_(averages, weights, 1 - keep)
    for average, buffer in zip(state.ema.buffers(), state.generator.buffers(), strict=True):
        average.copy_(buffer)
