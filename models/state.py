"""What a training is made of, and all that it needs to go on.

Exponential moving average of the generator: "The Unusual Effectiveness of Averaging in GAN
Training" - Yazici et al., 2019 (https://arxiv.org/abs/1806.04498).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam

from models.gan import Discriminator, GanConfig, Generator
from models.layers import best_device
from models.losses import learning_rates
from models.recipe import TrainConfig
from models.remedies import rate_factors

FIRST_ACCURACY = 0.75  # where no network is ahead, so that dynamic rates start whole
RECOVERY_RATE = 0.5  # what each recovery from a loss that is not finite leaves of the learning rate


class TrainState:
    """Networks, EMA, optimisers and counters."""

    def __init__(self, gan: GanConfig, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.step = 0  # generator steps
        self.images = 0  # real images shown to the discriminator
        self.seconds = 0.0
        self.recoveries = 0
        self.accuracy = torch.tensor(FIRST_ACCURACY, device=device)  # running, of the discriminator
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator, discriminator = Generator(gan), Discriminator(gan)
        # The shape overload of Module.to is missing from torch's annotations.
        layout = {"memory_format": torch.channels_last}
        self.generator = generator.to(device).to(**layout)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(device).to(**layout)  # type: ignore[call-overload]
        self.ema: Generator = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizer_generator = Adam(self.generator.parameters(), fused=True)
        self.optimizer_discriminator = Adam(self.discriminator.parameters(), fused=True)

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, in [0, 1]."""
        spent = max(self.images / self.config.max_images, self.seconds / self.config.max_seconds)
        return min(spent, 1.0)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """By the names that checkpoints give them."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
        }

    @property
    def optimizers(self) -> dict[str, Adam]:
        """By the names that checkpoints give them."""
        return {
            "optimizer_generator": self.optimizer_generator,
            "optimizer_discriminator": self.optimizer_discriminator,
        }

    def set_rates(self) -> None:
        """Give both optimisers the learning rate and betas of this moment."""
        config = self.config
        lr = config.lr_at(self.images) * RECOVERY_RATE**self.recoveries
        rates: tuple[float | Tensor, float | Tensor] = learning_rates(lr, config.alpha)
        if config.remedies.dynamic_lr:
            factors = rate_factors(self.accuracy)
            rates = (rates[0] * factors[0], rates[1] * factors[1])
        for optimizer, rate in zip(self.optimizers.values(), rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = rate, config.betas_at(self.images)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Average the weights, copy the buffers; a tenth of a young training is its half-life."""
        half_life = min(self.config.ema_half_life, 0.1 * self.images)
        keep = 0.5 ** (self.config.batch_size / half_life)
        averages: list[Tensor] = list(self.ema.parameters())
        weights: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(averages, weights, 1 - keep)
        for average, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def is_finite(self) -> bool:
        """Whether no weight of any network is NaN or infinite."""
        sums = [p.sum() for network in self.networks.values() for p in network.parameters()]
        return bool(torch.stack(sums).sum().isfinite())


@dataclass(frozen=True)
class Snapshot:
    """A copy in memory of everything that a step changes."""

    networks: dict[str, dict[str, Tensor]]
    optimizers: dict[str, dict[str, object]]
    accuracy: Tensor
    step: int
    images: int

    @classmethod
    def take(cls, state: TrainState) -> "Snapshot":
        """Remember `state` as it is."""
        return cls(
            {name: copy.deepcopy(net.state_dict()) for name, net in state.networks.items()},
            {name: copy.deepcopy(opt.state_dict()) for name, opt in state.optimizers.items()},
            state.accuracy.clone(),
            state.step,
            state.images,
        )

    def restore(self, state: TrainState) -> None:
        """Put `state` back to where it was; its clock and its count of recoveries go on."""
        for name, network in state.networks.items():
            network.load_state_dict(self.networks[name])
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(self.optimizers[name]))
        state.accuracy = self.accuracy.clone()
        state.step, state.images = self.step, self.images


def initial_state(
    gan: GanConfig, config: TrainConfig, device: torch.device | None = None
) -> TrainState:
    """A training that has not begun; equal weights for equal seeds."""
    return TrainState(gan, config, device or best_device())
