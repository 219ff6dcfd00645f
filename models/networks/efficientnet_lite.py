"""EfficientNet-Lite: ImageNet classifiers whose features judge images and guide discriminators.

Papers: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" - Tan & Le, 2019
(https://arxiv.org/abs/1905.11946); its blocks: "MobileNetV2" - Sandler et al., 2018
(https://arxiv.org/abs/1801.04381). The Lite variants, as their authors describe them: no
squeeze-and-excitation, ReLU6 in place of swish, and a stem, a head and a first and last stage that
do not grow with the network. Ours differs: the batch norms are folded into the convolutions.

Shapes: N images, R resolution in pixels, F feature maps, D features.
Images are float32 in [-1, 1], laid out (N, 3, R, R).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

STEM = 32  # feature maps
FEATURES = 1280
CLASSES = 1000  # of ImageNet


class Stage(NamedTuple):
    """Blocks of equal width; the first of them strides."""

    expansion: int
    width: int
    repeats: int
    stride: int
    kernel: int


# EfficientNet-B0, table 1 of the paper.
STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
TAPPED = (1, 2, 4, 6)  # the last stage of each side of feature maps: R / 4, / 8, / 16 and / 32


@dataclass(frozen=True, kw_only=True)
class EfficientNetLiteConfig:
    """Compound scaling of the seven stages, and the resolution of the training images."""

    width: float = 1.0
    depth: float = 1.0
    resolution: int = 224

    def scaled_stages(self) -> list[Stage]:
        """The stages of this variant; the first and the last keep their depth."""
        last = len(STAGES) - 1
        return [
            stage._replace(
                width=_round_to_eights(stage.width * self.width),
                repeats=stage.repeats
                if index in (0, last)
                else math.ceil(stage.repeats * self.depth),
            )
            for index, stage in enumerate(STAGES)
        ]


LITE0 = EfficientNetLiteConfig()
LITE1 = EfficientNetLiteConfig(depth=1.1, resolution=240)
LITE2 = EfficientNetLiteConfig(width=1.1, depth=1.2, resolution=260)


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": side H becomes ceil(H / stride)."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:
            return F.conv2d(x, self.weight, self.bias, padding=kernel // 2, groups=self.groups)
        columns = same_padding(int(x.shape[3]), kernel, stride)
        rows = same_padding(int(x.shape[2]), kernel, stride)
        padded = F.pad(x, (*columns, *rows))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after; where their number is odd, the larger part comes after."""
    padding = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return padding // 2, padding - padding // 2


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; (N, inputs, H, W) -> (N, width, H/s, W/s)."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self.expand = SameConv(inputs, inner, kernel=1) if stage.expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel=stage.kernel, stride=stride, groups=inner)
        self.project = SameConv(inner, stage.width, kernel=1)
        self.residual = stride == 1 and inputs == stage.width

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.expand is None else F.relu6(self.expand(x))
        projected: Tensor = self.project(F.relu6(self.depthwise(h)))
        return x + projected if self.residual else projected


class EfficientNetLite(nn.Module):
    """Images (N, 3, R, R), best at the config's resolution, to logits (N, 1000) of ImageNet."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = SameConv(3, STEM, kernel=3, stride=2)
        self.stages = nn.ModuleList()
        inputs = STEM
        for stage in config.scaled_stages():
            blocks = [Block(inputs, stage, stage.stride)]
            blocks += [Block(stage.width, stage, 1) for _ in range(stage.repeats - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = stage.width
        self.head = SameConv(inputs, FEATURES, kernel=1)
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """What the classifier sees: (N, 1280), not negative."""
        return self.feature_maps(images).mean((2, 3))

    def feature_maps(self, images: Tensor) -> Tensor:
        """The features before they are pooled: (N, 1280, R / 32, R / 32)."""
        return F.relu6(self.head(self.taps(images)[-1]))

    def taps(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, F, H, W) of sides R / 4, / 8, / 16 and / 32, for a discriminator."""
        x = F.relu6(self.stem(scaled(images)))
        taps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPPED:
                taps.append(x)
        return taps


def scaled(images: Tensor) -> Tensor:
    """[-1, 1] to the range of the training, (pixel - 127) / 128."""
    return (images * 127.5 + 0.5) / 128


def _round_to_eights(width: float) -> int:
    """The nearest multiple of 8 that is not below 90 % of `width`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8
