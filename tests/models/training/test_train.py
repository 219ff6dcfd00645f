"""Training: it learns, and going on from a saved state equals never having stopped."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from models.checkpoint import load_state, save_state
from models.data.datasets import Dataset
from models.inference.sample import sample
from models.networks.gan import DiscriminatorNorm, GanConfig
from models.networks.pixel_range import to_float
from models.training.losses import gradient_penalty
from models.training.remedies import Remedies
from models.training.state import TrainState, initial_state
from models.training.train import (
    CHECK_EVERY,
    Diverged,
    Progress,
    train,
)
from models.training.train_config import TrainConfig

CPU = torch.device("cpu")


REMEDIES = Remedies(
    clip_norm=0.5, discriminator_steps=3, instance_noise=0.2, dynamic_lr=True, ramp_images=100
)
PENALISED: dict[str, Any] = {
    "loss": "relativistic", "gamma": 0.5, "penalty_every": 3, "augment_p": 0.4
}  # fmt: skip


def tiny_gan(norm: DiscriminatorNorm = "spectral") -> GanConfig:
    return GanConfig(
        resolution=28, categories=2, z_dim=8, embedding_dim=4, generator_width=8,
        discriminator_width=8, discriminator_norm=norm,
    )  # fmt: skip


def run(state: TrainState, dataset: Dataset, steps: int) -> None:
    run_on(train(state, dataset), steps)


def run_on(training: Iterator[Progress], steps: int) -> None:
    for _ in itertools.islice(training, steps):
        pass


@pytest.mark.parametrize(
    ("norm", "options"),
    [
        ("spectral", {}),
        ("batch", {}),
        ("spectral", {"loss": "hinge", "balanced": True}),
        ("none", PENALISED),
        ("none", {"remedies": REMEDIES, "lr_end": 1e-5, "beta2_end": 0.99, "anneal_images": 120}),
    ],
)
@pytest.mark.parametrize("stop_at", [0, 1, 5])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    squares: Dataset, norm: DiscriminatorNorm, options: dict[str, Any], stop_at: int
) -> None:
    config = TrainConfig(batch_size=20, max_images=10_000, flip=True, seed=3, **options)
    whole = initial_state(tiny_gan(norm), config, CPU)
    run(whole, squares, 8)

    first = initial_state(tiny_gan(norm), config, CPU)
    run(first, squares, stop_at)
    resumed = load_state(save_state(first), CPU)
    run(resumed, squares, 8 - stop_at)

    resumed.seconds = whole.seconds  # the one thing that may differ
    assert save_state(resumed) == save_state(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "hinge"},
        {"loss": "relativistic"},
        {"augment_p": 0.5},
        {"augment_p_end": 0.8},
        {"gamma": 1.0},
        {"gamma": 1.0, "gamma_end": 0.1, "penalty_every": 1},
        {"balanced": True},
        {"lr_end": 1e-6},
        {"beta2_end": 0.5},
        {"remedies": Remedies(clip_norm=1e-3)},
        {"remedies": Remedies(discriminator_steps=2, ramp_images=16)},
        {"remedies": Remedies(instance_noise=0.5)},
    ],
)
def test_every_ingredient_changes_the_training(squares: Dataset, change: dict[str, Any]) -> None:
    weights = []
    chosen = (squares.labels == 0) | (torch.arange(48) < 24)  # twice as many of the first
    lopsided = Dataset(
        images=squares.images[chosen], labels=squares.labels[chosen], categories=squares.categories
    )
    for options in ({}, change):
        config = TrainConfig(batch_size=16, seed=1, anneal_images=32, **options)
        state = initial_state(tiny_gan("none"), config, CPU)
        run(state, lopsided, 3)
        weights.append(torch.cat([p.detach().flatten() for p in state.generator.parameters()]))
    assert not torch.equal(*weights)


def test_the_penalty_flattens_the_discriminator(squares: Dataset) -> None:
    def steepness(gamma: float) -> float:
        config = TrainConfig(batch_size=16, loss="relativistic", gamma=gamma, penalty_every=2)
        state = initial_state(tiny_gan("none"), config, CPU)
        run(state, squares, 60)
        images = to_float(squares.images).requires_grad_()
        logits = state.discriminator(images, squares.labels)
        return float(gradient_penalty(images, logits).detach().mean())

    assert steepness(10) < steepness(0) / 2


def test_batch_norm_and_a_gradient_penalty_exclude_each_other(squares: Dataset) -> None:
    state = initial_state(tiny_gan("batch"), TrainConfig(batch_size=16, gamma=1), CPU)
    with pytest.raises(ValueError, match="batch norm"):
        next(train(state, squares))


def test_another_seed_trains_another_model(squares: Dataset) -> None:
    images = []
    for seed in (0, 1):
        state = initial_state(tiny_gan(), TrainConfig(batch_size=16, seed=seed), CPU)
        run(state, squares, 2)
        images.append(sample(state.ema, [0], [0]))
    assert not (images[0] == images[1]).all()


def test_the_generator_learns_where_each_category_is_bright(squares: Dataset) -> None:
    gan = GanConfig(
        resolution=28, categories=2, z_dim=8, generator_width=16, discriminator_width=16
    )
    state = initial_state(gan, TrainConfig(batch_size=16, ema_half_life=300, lr=6e-4), CPU)
    run(state, squares, 400)
    images = sample(state.ema, range(16), [0, 1] * 8)[..., 0].astype(float)
    leftness = images[:, 8:20, 2:14].mean((1, 2)) - images[:, 8:20, 14:26].mean((1, 2))
    assert leftness[0::2].min() > leftness[1::2].max() + 50


def test_training_ends_at_either_limit(squares: Dataset) -> None:
    by_images = list(
        train(initial_state(tiny_gan(), TrainConfig(batch_size=8, max_images=20), CPU), squares)
    )
    assert [progress.images for progress in by_images] == [8, 16, 24]
    assert by_images[-1].fraction == 1
    by_time = list(
        train(initial_state(tiny_gan(), TrainConfig(batch_size=8, max_seconds=0.2), CPU), squares)
    )
    assert 0.2 <= by_time[-1].seconds < 2


def test_a_batch_larger_than_the_data_set_is_refused(squares: Dataset) -> None:
    state = initial_state(tiny_gan(), TrainConfig(batch_size=49), CPU)
    with pytest.raises(ValueError, match="batch_size 49"):
        next(train(state, squares))


def test_networks_of_another_resolution_are_refused(squares: Dataset) -> None:
    state = initial_state(GanConfig(resolution=32, categories=2), TrainConfig(batch_size=8), CPU)
    with pytest.raises(ValueError, match="do not fit"):
        next(train(state, squares))


def poison(state: TrainState) -> None:
    with torch.no_grad():
        state.generator.stem.weight.fill_(math.nan)


def test_a_training_goes_back_to_the_last_good_moment_when_its_losses_are_not_finite(
    squares: Dataset,
) -> None:
    state = initial_state(tiny_gan(), TrainConfig(batch_size=8, max_images=10**6), CPU)
    steps = train(state, squares)
    run_on(steps, CHECK_EVERY)
    good = state.generator.stem.weight.detach().clone()
    poison(state)
    run_on(steps, CHECK_EVERY)
    assert (state.step, state.images, state.recoveries) == (CHECK_EVERY, 8 * CHECK_EVERY, 1)
    torch.testing.assert_close(state.generator.stem.weight.detach(), good, rtol=0, atol=0)
    assert state.is_finite()
    run_on(steps, 2)
    rates = {group["lr"] for group in state.optimizer_generator.param_groups}
    assert rates == {TrainConfig().lr * 2 / 3 / 2}


def test_a_training_that_cannot_recover_is_an_error_with_its_step(squares: Dataset) -> None:
    state = initial_state(tiny_gan(), TrainConfig(batch_size=8, max_images=10**6), CPU)
    poison(state)  # before the first snapshot, which is therefore no good either
    with pytest.raises(Diverged, match=f"step {CHECK_EVERY}, after 3 recoveries"):
        run_on(train(state, squares), 10 * CHECK_EVERY)


def test_a_recovery_draws_other_random_numbers(squares: Dataset) -> None:
    images = []
    for recoveries in (0, 1):
        state = initial_state(tiny_gan(), TrainConfig(batch_size=8), CPU)
        state.recoveries = recoveries
        run(state, squares, 1)
        images.append(state.discriminator.head.parametrizations.weight.original.detach().clone())
    assert (images[0] - images[1]).abs().max() > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("batch_size", 1), ("max_images", 0), ("max_seconds", 0), ("lr", -1.0), ("alpha", 1.0)),
        *(("gamma", -1.0), ("penalty_every", 0), ("augment_p", 1.1), ("loss", "wasserstein")),
        *(("lr_end", 0.0), ("gamma_end", -1.0), ("beta2_end", 0.0), ("anneal_images", 0)),
        *(("betas", (0.0, 1.0)), ("ema_half_life", 0), ("augment_p_end", 1.1)),
    ],
)
def test_an_impossible_training_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{field: value})  # type: ignore[arg-type] # wrong on purpose


def test_the_schedules_run_from_the_first_value_to_the_last() -> None:
    config = TrainConfig(
        lr=1e-3, lr_end=1e-4, gamma=2.0, gamma_end=1.0, augment_p=0.0, augment_p_end=0.4,
        betas=(0.0, 0.9), beta2_end=0.99, anneal_images=100,
    )  # fmt: skip
    schedules = (
        (config.lr_at, 1e-3, 1e-4), (config.gamma_at, 2.0, 1.0), (config.augment_p_at, 0.0, 0.4),
        (lambda images: config.betas_at(images)[1], 0.9, 0.99),
    )  # fmt: skip
    for at, first, last in schedules:
        assert [at(0), at(50), at(100)] == pytest.approx([first, (first + last) / 2, last])
        assert at(1000) == at(100)
    assert TrainConfig(augment_p=0.3).augment_p_at(10**9) == 0.3
