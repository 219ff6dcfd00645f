"""Search space: architectures and their training recipes, as points of one tree of choices.

The macro-architecture and the recipe are searched together: cells that were searched alone have
lost to a good recipe in every replication. The tree contains only what can be built: the values of
a choice depend on the choices before it (batch norm, for example, excludes gradient penalties).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.networks.gan import (
    RESIDUAL_ONLY,
    Discriminator,
    GanConfig,
    Generator,
)
from models.training.train_config import TrainConfig

Choice = str | int | float | bool
Point = dict[str, Choice]
Narrowed = Mapping[str, tuple[Choice, ...]]

EVERYTHING: Narrowed = {}

# In the order of the decisions. Every list holds the hand-made presets' values.
SPACE: dict[str, tuple[Choice, ...]] = {
    "family": ("residual", "dcgan"),
    "generator_width": (16, 24, 32, 48, 64),
    "discriminator_width": (16, 24, 32, 48, 64),
    "z_dim": (32, 64, 128, 256),
    "depth": (0, 1, 2),
    "upsampling": ("transposed", "nearest"),
    "downsampling": ("strided", "pooled"),
    "generator_norm": ("batch", "none"),
    "attention": (False, True),
    "discriminator_norm": ("none", "spectral", "batch"),
    "loss": ("relativistic", "classic", "hinge"),
    "gamma": (0.0, 0.05, 0.1, 0.2, 0.3, 0.6, 1.0, 2.0),
    "batch_size": (16, 32, 64),
    "lr": (2e-4, 4e-4, 6e-4, 8e-4, 1.2e-3, 1.6e-3),
    "alpha": (1 / 3, 0.5, 2 / 3),
    "augment_p_end": (0.0, 0.15, 0.3, 0.5),
    "discriminator_steps": (1, 2),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A generator, its discriminator, and the recipe they are trained with."""

    gan: GanConfig
    recipe: TrainConfig

    def point(self) -> Point:
        """Its point in the tree, by the names of `SPACE`."""
        values = {**asdict(self.gan), **asdict(self.recipe)}
        values["discriminator_steps"] = self.recipe.remedies.discriminator_steps
        values["augment_p_end"] = self.recipe.augment_p_end or 0.0
        return {name: values[name] for name in SPACE}


def allowed(name: str, point: Point, narrowed: Narrowed = EVERYTHING) -> tuple[Choice, ...]:
    """The values that `name` may take, given the choices in `point` for the names before it.

    A value that the tree forces takes precedence over `narrowed`.
    """
    possible = _possible(name, point)
    wanted = narrowed.get(name, possible)
    return tuple(value for value in possible if value in wanted) or possible


def narrow(wanted: Mapping[str, Sequence[Choice]]) -> Narrowed:
    """A subset of the space: the permitted values of some names, in the order of `SPACE`.

    Raises:
        ValueError: a name or value is unknown, or there is nothing to choose from.
    """
    if not wanted:
        raise ValueError(f"search_space: name at least one of {', '.join(SPACE)}")
    for name, values in wanted.items():
        if name not in SPACE:
            raise ValueError(f"search_space.{name}: must be one of {', '.join(SPACE)}")
        if not values or any(_place(value, SPACE[name]) is None for value in values):
            raise ValueError(f"search_space.{name}: must hold some of {list(SPACE[name])}")
    return {
        name: tuple(value for value in SPACE[name] if _place(value, tuple(values)) is not None)
        for name, values in wanted.items()
    }


def _place(value: Choice, values: tuple[Choice, ...]) -> int | None:
    """The index of a value in `values`; unlike in Python, True does not equal 1."""
    for place, known in enumerate(values):
        if known == value and isinstance(known, bool) == isinstance(value, bool):
            return place
    return None


def _possible(name: str, point: Point) -> tuple[Choice, ...]:
    """The values of `name` that the tree contains, given the choices in `point`."""
    values = SPACE[name]
    if name in RESIDUAL_ONLY and point["family"] == "dcgan":
        return (getattr(GanConfig, name),)
    if name == "discriminator_norm" and point["family"] == "residual":
        return tuple(value for value in values if value != "batch")
    if name == "gamma" and point["discriminator_norm"] == "batch":
        return (0.0,)
    return values


def decide(
    choose: Callable[[str, tuple[Choice, ...]], Choice], narrowed: Narrowed = EVERYTHING
) -> Point:
    """Walk down the tree, calling `choose` wherever there is more than one value."""
    point: Point = {}
    for name in SPACE:
        values = allowed(name, point, narrowed)
        point[name] = choose(name, values) if len(values) > 1 else values[0]
    return point


def random_point(source: random.Random, narrowed: Narrowed = EVERYTHING) -> Point:
    """A random point, uniform in each choice."""
    return decide(lambda _, values: source.choice(values), narrowed)


def mutate(point: Point, source: random.Random, narrowed: Narrowed = EVERYTHING) -> Point:
    """A neighbour: one choice is changed, and with it all choices that it rules out."""
    names = [name for name in SPACE if len(allowed(name, point, narrowed)) > 1]
    changed = source.choice(names) if names else None

    def choose(name: str, values: tuple[Choice, ...]) -> Choice:
        others = [value for value in values if value != point[name]]
        if name == changed or len(others) == len(values):
            return source.choice(others)
        return point[name]

    return decide(choose, narrowed)


def build(point: Point, start: Architecture) -> Architecture:
    """`start` with the choices of `point`; resolution, colours, categories and budget stay.

    Raises:
        ValueError: the point is not in the tree; the message names the choice.
    """
    for name in SPACE:
        if name not in point:
            raise ValueError(f"{name} is missing")
        values = allowed(name, point)
        if point[name] not in values:
            raise ValueError(f"{name} must be one of {values} here; got {point[name]!r}")
    chosen: dict[str, Any] = dict(point)
    remedies = start.recipe.remedies
    if chosen["discriminator_steps"] != remedies.discriminator_steps:
        # Without a ramp: a search's trainings are too short for the number of steps to grow.
        steps = chosen["discriminator_steps"]
        remedies = replace(remedies, discriminator_steps=steps, ramp_images=1)
    return Architecture(
        gan=replace(start.gan, **_of(GanConfig, chosen)),
        recipe=replace(start.recipe, **_of(TrainConfig, chosen), remedies=remedies),
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Parameters and FLOPs of a pair; a multiplication with its addition counts as two."""

    generator_parameters: int
    discriminator_parameters: int
    generator_flops: int  # for one image
    discriminator_flops: int


def cost(gan: GanConfig) -> Cost:
    """Count on meta tensors, which have no memory, so that it takes milliseconds."""
    with torch.device("meta"):
        generator, discriminator = Generator(gan).eval(), Discriminator(gan).eval()
        labels = torch.zeros(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as generating:
            image = generator(torch.zeros(1, gan.z_dim), labels)
        with FlopCounterMode(display=False) as judging:
            discriminator(image, labels)
    return Cost(
        generator_parameters=sum(p.numel() for p in generator.parameters()),
        discriminator_parameters=sum(p.numel() for p in discriminator.parameters()),
        generator_flops=generating.get_total_flops(),
        discriminator_flops=judging.get_total_flops(),
    )


def describe_architecture(architecture: Architecture) -> str:
    """One readable line: every choice, and the pair's parameters and FLOPs."""
    weight = cost(architecture.gan)
    choices = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in architecture.point().items()
    )
    return (
        f"{choices}; {weight.generator_parameters / 1e6:.2f} +"
        f" {weight.discriminator_parameters / 1e6:.2f} M parameters,"
        f" {weight.generator_flops / 1e6:.0f} MFLOP an image"
    )


def _of(kind: type[GanConfig] | type[TrainConfig], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
