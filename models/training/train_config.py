"""Training hyperparameters of one pair, and their schedules.

The first values suit untrained networks, the last ones nearly trained networks. The cosine schedule
is that of "The GAN is dead; long live the GAN!" - Huang et al., 2024
(https://arxiv.org/abs/2501.05441). It depends on the images shown, not on time, so that a resumed
training equals an uninterrupted one.
"""

import math
from dataclasses import dataclass, field

from models.training.losses import LOSSES, Loss
from models.training.remedies import Remedies


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Hyperparameters of a training; it stops at `max_images` or `max_seconds`, the earlier one."""

    batch_size: int = 64
    max_images: int = 500_000  # real images shown to the discriminator
    max_seconds: float = 3600.0  # of training, over all attempts
    lr: float = 3e-4
    lr_end: float | None = None  # None: as `lr`
    alpha: float = 1 / 3  # weight of L_G; see `losses.learning_rates`
    betas: tuple[float, float] = (0.0, 0.9)
    beta2_end: float | None = None
    ema_half_life: int = 20_000  # images
    loss: Loss = "classic"
    gamma: float = 0.0  # weight of the gradient penalties R1 + R2; 0 turns them off
    gamma_end: float | None = None
    penalty_every: int = 16  # steps
    anneal_images: int = 200_000  # after which every scheduled value has reached its end
    augment_p: float = 0.0  # probability of each augmentation inside the discriminator
    augment_p_end: float | None = None
    flip: bool = False  # mirror half of the real images
    balanced: bool = False  # show every category equally often
    remedies: Remedies = field(default_factory=Remedies)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_images", "max_seconds", "lr", "ema_half_life"):
            self._require(name, getattr(self, name) > 0, "positive")
        for name in ("penalty_every", "anneal_images"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr_end", "gamma_end", "beta2_end"):
            value = getattr(self, name)
            self._require(name, value is None or value > 0, "positive")
        self._require("batch_size", self.batch_size >= 2, "at least 2, as batch norm needs")
        self._require("loss", self.loss in LOSSES, f"one of {', '.join(LOSSES)}")
        self._require("gamma", self.gamma >= 0, "at least 0")
        self._require("augment_p", 0 <= self.augment_p <= 1, "in [0, 1]")
        end = self.augment_p_end
        self._require("augment_p_end", end is None or 0 <= end <= 1, "in [0, 1]")
        self._require("alpha", 0 < self.alpha < 1, "in (0, 1)")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "in [0, 1)")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {what}; got {getattr(self, name)!r}")

    def lr_at(self, images: int) -> float:
        """The learning rate after `images` shown, before `alpha` divides it."""
        return self._annealed(self.lr, self.lr_end, images)

    def betas_at(self, images: int) -> tuple[float, float]:
        """Adam's betas after `images` shown."""
        return self.betas[0], self._annealed(self.betas[1], self.beta2_end, images)

    def gamma_at(self, images: int) -> float:
        """The penalties' weight after `images` shown."""
        return self._annealed(self.gamma, self.gamma_end, images)

    def augment_p_at(self, images: int) -> float:
        """The probability of each augmentation after `images` shown."""
        return self._annealed(self.augment_p, self.augment_p_end, images)

    def _annealed(self, first: float, last: float | None, images: int) -> float:
        """Cosine annealing from the first value to the last."""
        if last is None:
            return first
        done = min(images / self.anneal_images, 1.0)
        return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
