"""Training loop of one generator-discriminator pair: a generator that yields after each step.

Everything random in step k (data order, z, flips) is a function of (seed, k) alone. A training that
resumes from a saved state therefore equals an uninterrupted one, bit for bit on the CPU, unless one
of them had to recover from a loss that was not finite.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from models.data.datasets import Dataset
from models.networks.layers import has_fast_bf16, mixed_precision
from models.training.data_order import DataOrder, seeded
from models.training.state import Snapshot, TrainState
from models.training.train_step import Outcome, take_step

CHECK_EVERY = 100  # steps between two checks for finite values, and between two snapshots
MAX_RECOVERIES = 3


class Diverged(ArithmeticError):
    """A loss is still not finite after every recovery; the message names the step."""


@dataclass(frozen=True)
class Progress:
    """Progress and losses of a training after one step."""

    step: int
    images: int
    seconds: float  # of training so far, over all attempts
    fraction: float  # done, in [0, 1]
    recoveries: int
    outcome: Outcome

    def metrics(self) -> dict[str, float]:
        """The metrics to report; reading them waits for the device."""
        return {
            "loss_generator": float(self.outcome.loss_generator),
            "loss_discriminator": float(self.outcome.loss_discriminator),
            "real_logit": float(self.outcome.real_logit),
            "fake_logit": float(self.outcome.fake_logit),
            "discriminator_accuracy": float(self.outcome.accuracy),
            "recoveries": float(self.recoveries),
        }


def train(state: TrainState, dataset: Dataset) -> Iterator[Progress]:
    """Train `state` in place, from its current step, yielding after each step.

    A loss or weight that is not finite resets the training to the last good snapshot. It continues
    with other random numbers and half the learning rate.

    Raises:
        ValueError: the data set does not fit the networks or is smaller than a batch.
        Diverged: `MAX_RECOVERIES` recoveries did not help.
    """
    config = state.config
    _check(state, dataset)
    order = DataOrder(
        dataset,
        flip=config.flip,
        balanced=config.balanced,
        seed=config.seed,
        device=state.device,
    )
    bf16 = has_fast_bf16(state.device)
    good = Snapshot.take(state)
    while state.fraction < 1:
        started = time.perf_counter()
        # Stream 1 is the order of the data; each recovery draws from a stream of its own.
        random = seeded(config.seed, state.step, stream=state.recoveries and state.recoveries + 1)
        with mixed_precision(state.device, enabled=bf16):
            outcome = take_step(state, order, random)
        state.seconds += time.perf_counter() - started
        if state.step % CHECK_EVERY == 0 or state.fraction == 1:
            good = _checked(state, outcome, good)
        yield Progress(
            state.step, state.images, state.seconds, state.fraction, state.recoveries, outcome
        )


def _checked(state: TrainState, outcome: Outcome, good: Snapshot) -> Snapshot:
    """A new snapshot if all values are finite; else `state` is reset to `good`, the result."""
    losses = outcome.loss_generator + outcome.loss_discriminator
    if bool(losses.isfinite()) and state.is_finite():
        return Snapshot.take(state)
    if state.recoveries == MAX_RECOVERIES:
        raise Diverged(
            f"the losses are not finite at step {state.step}, after {MAX_RECOVERIES} recoveries;"
            " try a lower learning rate, a larger gamma, or clip_norm"
        )
    good.restore(state)
    state.recoveries += 1
    return good


def _check(state: TrainState, dataset: Dataset) -> None:
    gan, config = state.generator.config, state.config
    if dataset.images.shape[1:] != (gan.channels, gan.resolution, gan.resolution):
        raise ValueError(f"images {tuple(dataset.images.shape[1:])} do not fit {gan}")
    if len(dataset.labels) < config.batch_size:
        raise ValueError(
            f"batch_size {config.batch_size} is larger than the data set, {len(dataset.labels)}"
        )
    if config.gamma > 0 and gan.discriminator_norm == "batch":
        raise ValueError("batch norm ties the images of a batch together: set gamma to 0")
