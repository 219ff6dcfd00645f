"""U2-Net-p: the mask of an image's main object, and features of its encoder.

Paper: "U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection" - Qin et al.,
2020 (https://arxiv.org/abs/2005.09007); the small variant of its table 4, of 16 and 64 feature
maps. Ours differs: the batch norms are folded into the convolutions, and the masks of single
stages, which serve the training, are not returned.

Shapes: N images, R resolution in pixels (a multiple of 32), F feature maps, D features.
Images are float32 in [-1, 1], laid out (N, 3, R, R).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESOLUTION = 320  # of the training images
WIDTH = 64  # feature maps between blocks
INNER = 16  # feature maps inside blocks
HEIGHTS = (7, 6, 5, 4)  # of the pooling blocks, outermost first; two dilated ones follow
FEATURES = WIDTH * (len(HEIGHTS) + 2)


class ConvReLU(nn.Module):
    """3x3 convolution, ReLU; the side stays."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class UBlock(nn.Module):
    """Residual U-block (RSU): a small U-Net around which its input is added; the side stays.

    With `height` None it does not pool but dilates (RSU-4F).
    """

    def __init__(self, inputs: int, height: int | None) -> None:
        super().__init__()
        self.pools = height is not None
        levels = 3 if height is None else height - 1
        dilations = [1 if self.pools else 2**level for level in range(levels)]
        self.entry = ConvReLU(inputs, WIDTH)
        self.down = nn.ModuleList(
            ConvReLU(INNER if level else WIDTH, INNER, dilation=dilation)
            for level, dilation in enumerate(dilations)
        )
        self.bottom = ConvReLU(INNER, INNER, dilation=2 if self.pools else 2**levels)
        self.up = nn.ModuleList(
            ConvReLU(2 * INNER, INNER if level else WIDTH, dilation=dilations[level])
            for level in reversed(range(levels))
        )

    def forward(self, x: Tensor) -> Tensor:
        entry: Tensor = self.entry(x)
        h, skips = entry, list[Tensor]()
        for conv in self.down:
            h = conv(halved(h) if self.pools and skips else h)
            skips.append(h)
        h = self.bottom(h)
        for step, (conv, skip) in enumerate(zip(self.up, reversed(skips), strict=True)):
            # The bottom has the side of the last skip: there is no pooling between them.
            h = conv(torch.cat([enlarged(h) if self.pools and step else h, skip], 1))
        added: Tensor = entry + h
        return added


class U2NetP(nn.Module):
    """Images (N, 3, R, R), best at 320 px, to masks (N, 1, R, R) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        heights = (*HEIGHTS, None, None)
        self.encoder = nn.ModuleList(
            UBlock(WIDTH if stage else 3, height) for stage, height in enumerate(heights)
        )
        self.decoder = nn.ModuleList(UBlock(2 * WIDTH, height) for height in heights[-2::-1])
        self.sides = nn.ModuleList(nn.Conv2d(WIDTH, 1, 3, padding=1) for _ in heights)
        self.fuse = nn.Conv2d(len(heights), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))

    def decode(self, stages: list[Tensor]) -> Tensor:
        """The mask (N, 1, R, R) of the encoder's feature maps."""
        decoded = [stages[-1]]  # innermost first
        for block, skip in zip(self.decoder, stages[-2::-1], strict=True):
            decoded.append(block(torch.cat([enlarged(decoded[-1]), skip], 1)))
        masks = [
            enlarged(side(x), 2**stage) if stage else side(x)
            for stage, (side, x) in enumerate(zip(self.sides, reversed(decoded), strict=True))
        ]
        return torch.sigmoid(self.fuse(torch.cat(masks, 1)))

    def features(self, images: Tensor) -> Tensor:
        """Means of the feature maps of all six stages of the encoder: (N, 384), not negative."""
        return pooled(self.encode(images))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Feature maps (N, 64, H, W) of the six stages, of sides R, R / 2, ... R / 32."""
        x, stages = scaled(images), list[Tensor]()
        for block in self.encoder:
            x = block(halved(x) if stages else x)
            stages.append(x)
        return stages


def pooled(stages: list[Tensor]) -> Tensor:
    """Means of feature maps, (N, 64) each, side by side."""
    return torch.cat([stage.mean((2, 3)) for stage in stages], 1)


def halved(x: Tensor) -> Tensor:
    """Max-pooled to half the side."""
    return F.max_pool2d(x, 2)


def enlarged(x: Tensor, factor: int = 2) -> Tensor:
    """`factor` times the side, bilinear."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear")


def scaled(images: Tensor) -> Tensor:
    """[-1, 1] to the range of the training: ImageNet's mean is 0 and its deviation 1."""
    mean = images.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = images.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return ((images + 1) / 2 - mean) / deviation
