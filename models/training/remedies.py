"""Remedies for mode collapse: training options, all off by default.

- Gradient clipping bounds the effect of one bad batch.
- More discriminator steps keep the discriminator near its optimum, where its gradient is most
  informative ("Wasserstein GAN" - Arjovsky et al., 2017, https://arxiv.org/abs/1701.07875). Their
  number grows during the training, since the discriminator wins easily at its beginning.
- Instance noise on real and fake images lets the two distributions overlap, and is annealed away
  ("Amortised MAP Inference for Image Super-resolution" - Sonderby et al., 2017,
  https://arxiv.org/abs/1610.04490).
- Dynamic learning rates slow whichever network is far ahead, in the spirit of the equilibrium of
  "BEGAN" - Berthelot et al., 2017 (https://arxiv.org/abs/1703.10717).

All of them are functions of the images shown and of tensors in the training's state, so that a
resumed training repeats them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BALANCED_ACCURACY = (0.55, 0.8)  # of the discriminator; outside, one network is far ahead
SLOWEST = 0.1  # of the learning rate
ACCURACY_DECAY = 0.98  # decay per step of the running mean of the accuracy


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """Which remedies are on, and how strong."""

    clip_norm: float = 0.0  # largest norm of a network's gradient; 0 turns clipping off
    discriminator_steps: int = 1  # per generator step, at the end of the ramp
    instance_noise: float = 0.0  # standard deviation at the start, in units of [-1, 1]
    dynamic_lr: bool = False
    ramp_images: int = 200_000  # over which the steps grow and the noise vanishes

    def __post_init__(self) -> None:
        _require("clip_norm", self.clip_norm, 0 <= self.clip_norm < float("inf"))
        _require(
            "discriminator_steps", self.discriminator_steps, 1 <= self.discriminator_steps <= 16
        )
        _require("instance_noise", self.instance_noise, 0 <= self.instance_noise <= 1)
        _require("ramp_images", self.ramp_images, self.ramp_images >= 1)

    def steps_at(self, images: int) -> int:
        """Discriminator steps per generator step after `images` shown: 1 at first."""
        grown = min(images / self.ramp_images, 1.0)
        return 1 + int(grown * (self.discriminator_steps - 1))

    def noise_at(self, images: int) -> float:
        """Standard deviation of the instance noise after `images` shown: 0 in the end."""
        return self.instance_noise * max(1 - images / self.ramp_images, 0.0)


def _require(name: str, value: float, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} is out of range: {value}")


def add_noise(images: Tensor, deviation: float, random: torch.Generator) -> Tensor:
    """Images with normal noise; the same tensor object where `deviation` is 0."""
    if deviation == 0:
        return images
    return images + deviation * torch.randn(images.shape, generator=random).to(images.device)


def rate_factors(accuracy: Tensor) -> tuple[Tensor, Tensor]:
    """What to multiply the generator's and the discriminator's learning rates by, in (0, 1].

    `accuracy` is the discriminator's running accuracy, in [0, 1].
    """
    low, high = BALANCED_ACCURACY
    generator = (accuracy - 0.5) / (low - 0.5)
    discriminator = (1 - accuracy) / (1 - high)
    return generator.clamp(SLOWEST, 1), discriminator.clamp(SLOWEST, 1)


def running_accuracy(accuracy: Tensor, latest: Tensor) -> Tensor:
    """The exponential moving average of the accuracy after one more step."""
    return ACCURACY_DECAY * accuracy + (1 - ACCURACY_DECAY) * latest
