"""Training: it learns, and going on from a saved state equals never having stopped."""

import itertools
import math
from typing import Any

import pytest
import torch

from models.checkpoint import load_state, save_state
from models.data_order import DataOrder, seeded
from models.datasets import Dataset
from models.gan import DiscriminatorNorm, GanConfig
from models.losses import gradient_penalty
from models.sample import sample, to_float
from models.train import (
    Diverged,
    TrainConfig,
    TrainState,
    initial_state,
    train,
)

CPU = torch.device("cpu")


PENALISED: dict[str, Any] = {
    "loss": "relativistic", "gamma": 0.5, "penalty_every": 3, "augment_p": 0.4
}  # fmt: skip


def tiny_gan(norm: DiscriminatorNorm = "spectral") -> GanConfig:
    return GanConfig(
        resolution=28, categories=2, z_dim=8, embedding_dim=4, generator_width=8,
        discriminator_width=8, discriminator_norm=norm,
    )  # fmt: skip


def run(state: TrainState, dataset: Dataset, steps: int) -> None:
    for _ in itertools.islice(train(state, dataset), steps):
        pass


@pytest.mark.parametrize(
    ("norm", "options"),
    [("spectral", {}), ("batch", {}), ("spectral", {"loss": "hinge"}), ("none", PENALISED)],
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
    "change", [{"loss": "hinge"}, {"loss": "relativistic"}, {"augment_p": 0.5}, {"gamma": 1.0}]
)
def test_every_ingredient_changes_the_training(squares: Dataset, change: dict[str, Any]) -> None:
    images = []
    for options in ({}, change):
        config = TrainConfig(batch_size=16, seed=1, **options)
        state = initial_state(tiny_gan("none"), config, CPU)
        run(state, squares, 3)
        images.append(sample(state.generator.eval(), [0], [0]))
    assert not (images[0] == images[1]).all()


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


def test_an_epoch_shows_every_image_once(squares: Dataset) -> None:
    numbered = Dataset(
        images=torch.arange(48, dtype=torch.uint8)[:, None, None, None]
        .expand(48, 1, 28, 28)
        .clone(),
        labels=squares.labels,
        categories=squares.categories,
    )
    order = DataOrder(numbered, batch_size=16, flip=False, seed=0)
    shown = [order.batch(step, seeded(0, step), CPU)[0][:, 0, 0, 0] for step in range(6)]
    for epoch in (shown[:3], shown[3:]):
        assert len(torch.cat(epoch).unique()) == 48
    assert not torch.equal(torch.cat(shown[:3]), torch.cat(shown[3:]))


def test_flips_mirror_about_half_of_the_images(squares: Dataset) -> None:
    def brighter_left(flip: bool) -> int:
        order = DataOrder(squares, batch_size=48, flip=flip, seed=0)
        images, labels = order.batch(0, seeded(0, 0), CPU)
        left = images[..., :14].mean((1, 2, 3)) > images[..., 14:].mean((1, 2, 3))
        return int((left == (labels == 0)).sum())

    assert brighter_left(flip=False) == 48
    assert 12 < brighter_left(flip=True) < 36


def test_a_batch_larger_than_the_data_set_is_refused(squares: Dataset) -> None:
    state = initial_state(tiny_gan(), TrainConfig(batch_size=49), CPU)
    with pytest.raises(ValueError, match="batch_size 49"):
        next(train(state, squares))


def test_networks_of_another_resolution_are_refused(squares: Dataset) -> None:
    state = initial_state(GanConfig(resolution=32, categories=2), TrainConfig(batch_size=8), CPU)
    with pytest.raises(ValueError, match="do not fit"):
        next(train(state, squares))


def test_a_loss_that_is_not_finite_is_an_error_with_its_step(squares: Dataset) -> None:
    state = initial_state(tiny_gan(), TrainConfig(batch_size=8), CPU)
    with torch.no_grad():
        state.generator.stem.weight.fill_(math.nan)
    progress = next(train(state, squares))
    with pytest.raises(Diverged, match="step 1"):
        progress.metrics()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("batch_size", 1), ("max_images", 0), ("max_seconds", 0), ("lr", -1.0), ("alpha", 1.0)),
        *(("gamma", -1.0), ("penalty_every", 0), ("augment_p", 1.1), ("loss", "wasserstein")),
    ],
)
def test_an_impossible_training_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{field: value})  # type: ignore[arg-type] # wrong on purpose
