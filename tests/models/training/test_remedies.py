"""The remedies of mode collapse, each seen to act."""

import pytest
import torch

from models.data.datasets import Dataset
from models.networks.gan import GanConfig
from models.training.data_order import DataOrder, seeded
from models.training.remedies import Remedies, add_noise, rate_factors
from models.training.state import TrainState, initial_state
from models.training.train_config import TrainConfig
from models.training.train_step import take_step

CPU = torch.device("cpu")
TINY = GanConfig(
    resolution=28, categories=2, z_dim=8, embedding_dim=4, generator_width=8, discriminator_width=8
)


def after_a_step(squares: Dataset, remedies: Remedies, accuracy: float = 0.75) -> TrainState:
    state = initial_state(TINY, TrainConfig(batch_size=8, remedies=remedies), CPU)
    state.accuracy = torch.tensor(accuracy)
    order = DataOrder(squares, flip=False, balanced=False, seed=0, device=CPU)
    take_step(state, order, seeded(0, 0))
    return state


def test_a_clipped_gradient_has_at_most_the_wanted_norm(squares: Dataset) -> None:
    def norm(remedies: Remedies) -> float:
        state = after_a_step(squares, remedies)
        gradients = [p.grad for p in state.generator.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    free = norm(Remedies())
    assert norm(Remedies(clip_norm=free / 2)) == pytest.approx(free / 2, rel=1e-3)
    assert norm(Remedies(clip_norm=free * 2)) == pytest.approx(free, rel=1e-3)


def test_discriminator_steps_grow_to_the_wanted_number() -> None:
    remedies = Remedies(discriminator_steps=3, ramp_images=100)
    assert [remedies.steps_at(images) for images in (0, 49, 50, 99, 100, 10_000)] == [
        *(1, 1, 2, 2, 3, 3)
    ]
    assert Remedies().steps_at(10**9) == 1


def test_more_discriminator_steps_show_more_images(squares: Dataset) -> None:
    state = initial_state(
        TINY,
        TrainConfig(batch_size=8, remedies=Remedies(discriminator_steps=3, ramp_images=1)),
        CPU,
    )
    order = DataOrder(squares, flip=False, balanced=False, seed=0, device=CPU)
    take_step(state, order, seeded(0, 0))  # no image shown yet: one step
    take_step(state, order, seeded(0, 1))
    assert (state.step, state.images) == (2, 8 + 24)
    steps = {name: o.state_dict()["state"][0]["step"] for name, o in state.optimizers.items()}
    assert steps == {"optimizer_generator": 2, "optimizer_discriminator": 4}


def test_instance_noise_vanishes() -> None:
    remedies = Remedies(instance_noise=0.4, ramp_images=100)
    assert [remedies.noise_at(images) for images in (0, 50, 100, 200)] == [0.4, 0.2, 0, 0]


def test_noise_has_the_wanted_deviation_and_none_is_no_change() -> None:
    images = torch.zeros(64, 1, 16, 16)
    assert add_noise(images, 0.0, seeded(0, 0)) is images
    noisy = add_noise(images, 0.3, seeded(0, 0))
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.05)
    assert float(noisy.mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("accuracy", "generator", "discriminator"),
    [(0.7, 1.0, 1.0), (0.9, 1.0, 0.5), (1.0, 1.0, 0.1), (0.525, 0.5, 1.0), (0.2, 0.1, 1.0)],
)
def test_rates_slow_whoever_is_ahead(
    accuracy: float, generator: float, discriminator: float
) -> None:
    factors = rate_factors(torch.tensor(accuracy))
    assert [float(factor) for factor in factors] == pytest.approx([generator, discriminator])


def test_dynamic_rates_reach_the_optimisers(squares: Dataset) -> None:
    def rate(remedies: Remedies) -> float:
        state = after_a_step(squares, remedies, accuracy=0.9)
        return float(state.optimizer_discriminator.param_groups[0]["lr"])

    assert rate(Remedies(dynamic_lr=True)) == pytest.approx(rate(Remedies()) / 2)


def test_the_running_accuracy_follows_the_discriminator(squares: Dataset) -> None:
    state = initial_state(TINY, TrainConfig(batch_size=8), CPU)
    order = DataOrder(squares, flip=False, balanced=False, seed=0, device=CPU)
    outcomes = [take_step(state, order, seeded(0, step)) for step in range(60)]
    last = float(torch.stack([outcome.accuracy for outcome in outcomes[-30:]]).mean())
    assert float(state.accuracy) == pytest.approx(last, abs=0.15)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("clip_norm", -1.0), ("clip_norm", float("nan")), ("discriminator_steps", 0)),
        *(("discriminator_steps", 17), ("instance_noise", 1.5), ("ramp_images", 0)),
    ],
)
def test_an_impossible_remedy_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Remedies(**{field: value})  # type: ignore[arg-type] # wrong on purpose
