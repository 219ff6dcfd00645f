"""Training state: networks, exponential moving average, optimisers and counters.

Exponential moving average (EMA) of the generator: "The Unusual Effectiveness of Averaging in GAN
Training" - Yazici et al., 2019 (https://arxiv.org/abs/1806.04498).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam

from models.networks.gan import Discriminator, GanConfig, Generator
from models.networks.layers import best_device
from models.training.losses import learning_rates
from models.training.remedies import rate_factors
from models.training.train_config import TrainConfig

FIRST_ACCURACY = 0.75  # no network is ahead, so that dynamic rates start unreduced
RECOVERY_RATE = 0.5  # factor on the learning rate for each recovery from a loss that is not finite


class TrainState:
    """Networks, EMA, optimisers and counters: all that a training needs to resume."""

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
        """All networks, by their names in checkpoints."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
        }

    @property
    def optimizers(self) -> dict[str, Adam]:
        """Both optimisers, by their names in checkpoints."""
        return {
            "optimizer_generator": self.optimizer_generator,
            "optimizer_discriminator": self.optimizer_discriminator,
        }

    def set_rates(self) -> None:
        """Set both optimisers' learning rates and betas to their scheduled values."""
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
        """Average the weights, copy the buffers; half-life: at most a tenth of the images shown."""
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
        """Copy `state`."""
        return cls(
            {name: copy.deepcopy(net.state_dict()) for name, net in state.networks.items()},
            {name: copy.deepcopy(opt.state_dict()) for name, opt in state.optimizers.items()},
            state.accuracy.clone(),
            state.step,
            state.images,
        )

    def restore(self, state: TrainState) -> None:
        """Reset `state` to this snapshot, except `seconds` and `recoveries`."""
        for name, network in state.networks.items():
            network.load_state_dict(self.networks[name])
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(self.optimizers[name]))
        state.accuracy = self.accuracy.clone()
        state.step, state.images = self.step, self.images


def initial_state(
    gan: GanConfig, config: TrainConfig, device: torch.device | None = None
) -> TrainState:
    """A training state at step 0; equal seeds give equal weights."""
    return TrainState(gan, config, device or best_device())
