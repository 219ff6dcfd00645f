"""Class-conditional DCGAN-style generator and discriminator for square images.

Paper: "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" - Radford et al., 2016 (https://arxiv.org/abs/1511.06434).
Ours differs: the category enters the generator as an embedding beside z and the discriminator as a
projection ("cGANs with Projection Discriminator" - Miyato and Koyama, 2018,
https://arxiv.org/abs/1802.05637); the discriminator is spectrally normalised unless
`discriminator_norm` asks for DCGAN's batch norm, or for none, as gradient penalties want it.

Shapes: N batch, Z latent, E class embedding, C image channels, R resolution in pixels.
Images are float32 in [-1, 1], laid out (N, C, R, R); labels are int64 (N,).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.layers import down_block, he_init, normal_init, up_block

Resolution = Literal[28, 32, 64, 128]
DiscriminatorNorm = Literal["spectral", "batch", "none"]
Preset = Literal["fast", "balanced", "best"]

WIDEST = 8  # no stage is wider than this many times the width at the image


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """Architecture of one generator-discriminator pair; stored inside every checkpoint."""

    resolution: Resolution = 32
    channels: int = 1
    categories: int = 10
    z_dim: int = 128
    embedding_dim: int = 32
    generator_width: int = 64  # feature maps of the stage next to the image
    discriminator_width: int = 64
    discriminator_norm: DiscriminatorNorm = "spectral"

    def __post_init__(self) -> None:
        if self.resolution not in get_args(Resolution):
            raise ValueError(f"resolution must be 28, 32, 64 or 128; got {self.resolution}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour); got {self.channels}")
        if self.discriminator_norm not in get_args(DiscriminatorNorm):
            raise ValueError(f"unknown discriminator_norm {self.discriminator_norm!r}")
        for name in ("categories", "z_dim", "embedding_dim"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} must be in 1..4096; got {getattr(self, name)}")
        for name in ("generator_width", "discriminator_width"):
            if not 4 <= getattr(self, name) <= 512:
                raise ValueError(f"{name} must be in 4..512; got {getattr(self, name)}")

    @property
    def base(self) -> int:
        """Side of the first feature map, in pixels."""
        return 7 if self.resolution == 28 else 4

    @property
    def stages(self) -> int:
        """Number of times the generator doubles the resolution."""
        return (self.resolution // self.base).bit_length() - 1

    def widths(self, width: int) -> list[int]:
        """Feature maps of each stage, from the image inwards: width, 2 width, ... 8 width."""
        return [width * min(2**stage, WIDEST) for stage in range(self.stages)]


# Width of generator and discriminator. A training step's cost grows with its square.
PRESET_WIDTHS: dict[Preset, int] = {"fast": 32, "balanced": 64, "best": 96}


def preset_config(
    preset: Preset, resolution: Resolution, channels: int, categories: int
) -> GanConfig:
    """The hand-made architecture of this name."""
    width = PRESET_WIDTHS[preset]
    return GanConfig(
        resolution=resolution,
        channels=channels,
        categories=categories,
        generator_width=width,
        discriminator_width=width,
    )


class Generator(nn.Module):
    """Latents (N, Z) and labels (N,) to images (N, C, R, R)."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths(config.generator_width)[::-1]  # widest first
        self.embedding = nn.Embedding(config.categories, config.embedding_dim)
        self.stem = nn.Linear(
            config.z_dim + config.embedding_dim, widths[0] * config.base**2, bias=False
        )
        self.stem_norm = nn.Sequential(nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.ModuleList(up_block(inputs, outputs) for inputs, outputs in pairs)
        self.to_image = nn.ConvTranspose2d(
            widths[-1], config.channels, kernel_size=4, stride=2, padding=1
        )
        self.apply(normal_init)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        condition = torch.cat([z, self.embedding(labels)], dim=1)  # (N, Z + E)
        side = self.config.base
        x: Tensor = self.stem(condition).unflatten(1, (-1, side, side))  # (N, F, base, base)
        x = self.stem_norm(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)  # R doubles
        return torch.tanh(self.to_image(x).float())


class Discriminator(nn.Module):
    """Images (N, C, R, R) and labels (N,) to logits (N,): how real each image looks."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        spectral = config.discriminator_norm == "spectral"
        batch_norm = config.discriminator_norm == "batch"
        widths = [config.channels, *config.widths(config.discriminator_width)]
        self.blocks = nn.Sequential(
            *(
                # DCGAN leaves the first layer without batch norm: it sees the image itself.
                down_block(inputs, outputs, batch_norm=batch_norm and stage > 0, spectral=spectral)
                for stage, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )
        # DCGAN's small weights rely on a norm behind them to restore the signal's size.
        self.apply(he_init if config.discriminator_norm == "none" else normal_init)
        head = nn.Linear(widths[-1] * config.base**2, 1)
        embedding = nn.Embedding(config.categories, widths[-1])
        if not spectral:
            # The default, N(0, 1), starts with logits in the hundreds, and the pair collapses.
            nn.init.normal_(embedding.weight, 0.0, 0.02)
        self.head = spectral_norm(head) if spectral else head
        self.embedding = spectral_norm(embedding) if spectral else embedding

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        h: Tensor = self.blocks(images)  # (N, F, base, base)
        unconditional: Tensor = self.head(h.flatten(1)).squeeze(1)
        projection = (self.embedding(labels) * h.sum(dim=(2, 3))).sum(dim=1)
        logits: Tensor = unconditional.float() + projection.float()
        return logits
