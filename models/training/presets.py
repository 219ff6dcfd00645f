"""Presets: hand-made architectures and training recipes, by name, resolution and data set size.

`fast` and `balanced` are sized for a CPU, `best` for a GPU or a training of many hours;
`benchmarks.presets` prints the cost of each. The numbers were tuned on Fashion-MNIST at 32 px and
on 3,000 colour photos at 64 px, measured on held-out training photos, in trainings of minutes on
two CPU cores, where many small steps of small networks gave the best quality.
"""

from typing import Any, Literal

from models.networks.gan import GanConfig, Resolution
from models.training.train_config import TrainConfig

Preset = Literal["fast", "balanced", "best"]

# Feature maps next to the image, of both networks. A step's cost grows with the square.
WIDTHS: dict[Preset, int] = {"fast": 24, "balanced": 32, "best": 64}

# Weight of the gradient penalties, larger for more pixels. That for 128 px has not been measured.
GAMMAS: dict[Resolution, float] = {28: 0.2, 32: 0.2, 64: 0.3, 128: 1.0}

BATCH = 32  # photos a step, of as many as there are

ANNEAL_IMAGES = 1_000_000  # fewer where the training is shorter
# With fewer photos the discriminator overfits unless they are augmented. It does so late, and
# augmentation from the beginning slows a training more than anything else here: p grows from 0.
FEW_PHOTOS = 10_000
AUGMENT_P_END = 0.3


def preset_config(
    preset: Preset, resolution: Resolution, channels: int, categories: int
) -> GanConfig:
    """The architecture of a preset."""
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
        "batch_size": min(BATCH, photos),
        # Six times R3GAN's. From 2e-4 up each doubling was better; 2e-3 fails at 64 px.
        "lr": 1.2e-3,
        "lr_end": 3e-4,
        "anneal_images": min(ANNEAL_IMAGES, changes.get("max_images", ANNEAL_IMAGES)),
        "alpha": 0.5,
        "betas": (0.0, 0.99),
        "balanced": True,
    }
    if photos < FEW_PHOTOS and "augment_p" not in changes:
        recipe["augment_p_end"] = AUGMENT_P_END
    return TrainConfig(**recipe | changes)
