"""The hand-made pairs: architecture and recipe by name, resolution and size of the data set.

`fast` and `balanced` are shaped for a CPU, `best` for a GPU or a long night; `benchmarks.presets`
prints what each costs. The numbers were chosen on Fashion-MNIST at 32 px, by held-out training
photos, in minutes of two CPU cores: many small steps of small networks went furthest there.
"""

from typing import Any, Literal

from models.gan import GanConfig, Resolution
from models.recipe import TrainConfig

Preset = Literal["fast", "balanced", "best"]

# Feature maps next to the image, of both networks. A step's cost grows with the square.
WIDTHS: dict[Preset, int] = {"fast": 24, "balanced": 32, "best": 64}

# Of the gradient penalties. R3GAN (Huang et al., 2024) lets it grow faster than the pixels' number;
# 64 and 128 px follow that, and have not been measured yet.
GAMMAS: dict[Resolution, float] = {28: 0.2, 32: 0.2, 64: 1.0, 128: 10.0}

FEW_PHOTOS = 10_000  # with fewer the discriminator soon knows them by heart, unless augmented
AUGMENT_P = 0.3


def preset_config(
    preset: Preset, resolution: Resolution, channels: int, categories: int
) -> GanConfig:
    """The architecture of this name."""
    return GanConfig(
        family="residual",
        resolution=resolution,
        channels=channels,
        categories=categories,
        generator_width=WIDTHS[preset],
        discriminator_width=WIDTHS[preset],
        discriminator_norm="none",
    )


def preset_recipe(resolution: Resolution, photos: int, **changes: Any) -> TrainConfig:
    """The recipe for so many training photos; `changes` are fields of `TrainConfig`."""
    recipe: dict[str, Any] = {
        "loss": "relativistic",
        "gamma": GAMMAS[resolution],
        "penalty_every": 16,
        "batch_size": 32,
        "lr": 1.2e-3,  # six times R3GAN's; from 2e-4 up, each doubling was better after two minutes
        "lr_end": 3e-4,
        "anneal_images": 1_000_000,
        "alpha": 0.5,
        "betas": (0.0, 0.99),
        "balanced": True,
        "augment_p": AUGMENT_P if photos < FEW_PHOTOS else 0.0,
    }
    return TrainConfig(**recipe | changes)
