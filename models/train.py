"""Training one generator-discriminator pair: a generator that yields after each step.

Everything random in step k (data order, z, flips) is a function of (seed, k) alone. A training that
goes on from a saved state therefore equals an uninterrupted one, bit for bit on the CPU, unless a
loss that was not finite made one of them go back.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from models.data_order import DataOrder, seeded
from models.datasets import Dataset
from models.layers import has_fast_bf16, mixed_precision
from models.state import Snapshot, TrainState
from models.updates import Outcome, take_step

CHECK_EVERY = 100  # steps between two looks at whether all is finite, and between snapshots
MAX_RECOVERIES = 3


class Diverged(ArithmeticError):
    """A loss is not finite, again after every recovery; the message names the step."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step."""

    step: int
    images: int
    seconds: float  # of training so far, over all attempts
    fraction: float  # done, in [0, 1]
    recoveries: int
    outcome: Outcome

    def metrics(self) -> dict[str, float]:
        """The numbers to report; reading them waits for the device."""
        return {
            "loss_generator": float(self.outcome.loss_generator),
            "loss_discriminator": float(self.outcome.loss_discriminator),
            "real_logit": float(self.outcome.real_logit),
            "fake_logit": float(self.outcome.fake_logit),
            "discriminator_accuracy": float(self.outcome.accuracy),
            "recoveries": float(self.recoveries),
        }


def train(state: TrainState, dataset: Dataset) -> Iterator[Progress]:
    """Train `state` in place from where it stands, yielding after each step.

    A loss or weight that is not finite takes the training back to the last good moment, to go on
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
    """A snapshot of `state` where all is finite; else `good`, which `state` is put back to."""
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
