"""Class-conditional GAN: generators and discriminators for square images, in two families.

`dcgan`: "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks" - Radford et al., 2016 (https://arxiv.org/abs/1511.06434).
Ours differs: the category enters the generator as an embedding beside z and the discriminator as a
projection ("cGANs with Projection Discriminator" - Miyato and Koyama, 2018,
https://arxiv.org/abs/1802.05637); the discriminator has spectral normalisation unless
`discriminator_norm` selects DCGAN's batch norm, or none, for use with gradient penalties.

`residual`: the same strided 4x4 convolutions with skips around them and a 3x3 convolution at each
resolution, after "The GAN is dead; long live the GAN!" - Huang et al., 2024
(https://arxiv.org/abs/2501.05441). Ours differs: batch norm in the generator only (its removal
lowered quality in every trial), dense instead of grouped convolutions, no resampling filters.

Shapes: N batch, Z latent, E class embedding, C image channels, R resolution in pixels.
Images are float32 in [-1, 1], laid out (N, C, R, R); labels are int64 (N,).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.networks.layers import (
    Downsampling,
    GeneratorNorm,
    ResidualDown,
    ResidualUp,
    SelfAttention,
    Upsampling,
    down_block,
    he_init,
    normal_init,
    up_block,
)

Resolution = Literal[28, 32, 64, 128]
DiscriminatorNorm = Literal["spectral", "batch", "none"]
Family = Literal["dcgan", "residual"]

CHOICES = {
    "family": Family,
    "discriminator_norm": DiscriminatorNorm,
    "upsampling": Upsampling,
    "downsampling": Downsampling,
    "generator_norm": GeneratorNorm,
}
RESIDUAL_ONLY = ("depth", "upsampling", "downsampling", "generator_norm", "attention")
WIDEST = 8  # no stage is wider than this many times the width at the image


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """Architecture of one generator-discriminator pair; stored inside every checkpoint."""

    family: Family = "dcgan"
    resolution: Resolution = 32
    channels: int = 1
    categories: int = 10
    z_dim: int = 128
    embedding_dim: int = 32
    generator_width: int = 64  # feature maps of the stage next to the image
    discriminator_width: int = 64
    discriminator_norm: DiscriminatorNorm = "spectral"
    # Residual family only:
    depth: int = 1  # 3x3 convolutions of a stage, beside the one that doubles or halves
    upsampling: Upsampling = "transposed"
    downsampling: Downsampling = "strided"
    generator_norm: GeneratorNorm = "batch"
    attention: bool = False  # in both networks, where the maps are 14 or 16 pixels wide

    def __post_init__(self) -> None:
        self._require("resolution", get_args(Resolution))
        self._require("channels", (1, 3))
        self._require("depth", range(4))
        for name, kind in CHOICES.items():
            self._require(name, get_args(kind))
        if self.family == "residual" and self.discriminator_norm == "batch":
            raise ValueError("discriminator_norm must be spectral or none in the residual family")
        for name in RESIDUAL_ONLY if self.family == "dcgan" else ():
            if getattr(self, name) != getattr(GanConfig, name):
                raise ValueError(f"{name} cannot be chosen in the dcgan family")
        for name in ("categories", "z_dim", "embedding_dim"):
            self._require(name, range(1, 4097))
        for name in ("generator_width", "discriminator_width"):
            self._require(name, range(4, 513))

    def _require(self, name: str, allowed: Sequence[object]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            choice = (
                f"in {allowed[0]}..{allowed[-1]}"
                if isinstance(allowed, range)
                else f"one of {', '.join(map(str, allowed))}"
            )
            raise ValueError(f"{name} must be {choice}; got {value!r}")

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

    @property
    def attentive_stage(self) -> int:
        """Doublings from the first feature map to the one that self-attention is applied to."""
        return 1 if self.base == 7 else 2


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
        if config.family == "residual":
            # Its blocks begin with a norm; the last one's output still needs one.
            self.stem_norm: nn.Module = nn.Identity()
            self.blocks = nn.ModuleList(_residual_up(config, widths))
            batch_norm = config.generator_norm == "batch"
            self.last_norm: nn.Module = nn.Sequential(
                nn.BatchNorm2d(widths[-1]) if batch_norm else nn.Identity(),
                nn.LeakyReLU(0.2, inplace=True),
            )
        else:
            self.stem_norm = nn.Sequential(nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True))
            pairs = zip(widths, widths[1:], strict=False)
            self.blocks = nn.ModuleList(up_block(inputs, outputs) for inputs, outputs in pairs)
            self.last_norm = nn.Identity()
        self.to_image = _to_image(config, widths[-1])
        if config.family == "dcgan":
            self.apply(normal_init)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        condition = torch.cat([z, self.embedding(labels)], dim=1)  # (N, Z + E)
        side = self.config.base
        x: Tensor = self.stem(condition).unflatten(1, (-1, side, side))  # (N, F, base, base)
        x = self.stem_norm(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)  # the side doubles
        return torch.tanh(self.to_image(self.last_norm(x)).float())


def _residual_up(config: GanConfig, widths: list[int]) -> Iterator[nn.Module]:
    for stage, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False), start=1):
        block = ResidualUp(
            inputs,
            outputs,
            upsampling=config.upsampling,
            depth=config.depth,
            norm=config.generator_norm,
        )
        # One module per doubling, so that parameter names in a checkpoint contain the stage.
        attentive = config.attention and stage == config.attentive_stage
        yield nn.Sequential(block, SelfAttention(outputs)) if attentive else block


def _to_image(config: GanConfig, width: int) -> nn.Module:
    """Layers from `width` maps at half the side to the image, before tanh."""
    if config.family == "dcgan":
        return nn.ConvTranspose2d(width, config.channels, kernel_size=4, stride=2, padding=1)
    # A transposed convolution alone leaves a checkerboard; a few maps at full resolution remove it.
    thin = max(width // 4, 4)
    up = nn.ConvTranspose2d(width, thin, kernel_size=4, stride=2, padding=1)
    last = nn.Conv2d(thin, config.channels, kernel_size=3, padding=1)
    up.apply(he_init)
    last.apply(normal_init)
    return nn.Sequential(up, nn.LeakyReLU(0.2, inplace=True), last)


class Discriminator(nn.Module):
    """Images (N, C, R, R) and labels (N,) to logits (N,): how real each image looks."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        spectral = config.discriminator_norm == "spectral"
        widths = config.widths(config.discriminator_width)
        blocks = _residual_blocks if config.family == "residual" else _dcgan_blocks
        self.blocks = nn.Sequential(*blocks(config, widths, spectral))
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


def _dcgan_blocks(config: GanConfig, widths: list[int], spectral: bool) -> Iterator[nn.Module]:
    batch_norm = config.discriminator_norm == "batch"
    maps = [config.channels, *widths]
    for stage, (inputs, outputs) in enumerate(zip(maps, widths, strict=False)):
        # As in DCGAN, the first layer has no batch norm: its input is the image itself.
        block = down_block(inputs, outputs, batch_norm=batch_norm and stage > 0, spectral=spectral)
        # DCGAN's small weights rely on a norm behind them to restore the signal's size.
        block.apply(he_init if config.discriminator_norm == "none" else normal_init)
        yield block


def _residual_blocks(config: GanConfig, widths: list[int], spectral: bool) -> Iterator[nn.Module]:
    # The first layer halves the side: at full resolution it would cost as much as all the others.
    first = nn.Conv2d(config.channels, widths[0], kernel_size=4, stride=2, padding=1)
    he_init(first)
    yield spectral_norm(first) if spectral else first
    for stage, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        if config.attention and config.stages - 1 - stage == config.attentive_stage:
            yield SelfAttention(inputs, spectral=spectral)
        yield ResidualDown(
            inputs,
            outputs,
            spectral=spectral,
            downsampling=config.downsampling,
            depth=config.depth,
        )
    yield nn.LeakyReLU(0.2, inplace=True)
