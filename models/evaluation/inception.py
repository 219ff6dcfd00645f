"""InceptionV3, the FID's feature extractor: 2048 features of TensorFlow's network of 2015.

Papers: "Rethinking the Inception Architecture for Computer Vision" - Szegedy et al., 2016
(https://arxiv.org/abs/1512.00567); the FID - Heusel et al., 2017 (https://arxiv.org/abs/1706.08500).

The weights are not distributed with this project. Convert those of pytorch-fid
(`pt_inception-2015-12-05`), whose parameter names the layers use, to safetensors:

    import torch
    from safetensors.torch import save_file
    weights = torch.load("pt_inception-2015-12-05-6726825d.pth", weights_only=True)
    save_file(weights, "inception.safetensors")

Shapes: N images, C channels, R resolution in pixels, F feature maps.
"""

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from models.networks.layers import best_device
from models.networks.pixel_range import to_float

SIDE = 299  # px
FEATURES = 2048
NORM_EPSILON = 0.001


class InceptionError(ValueError):
    """The file does not hold the weights of this network."""


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        pad: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(side // 2 for side in sides) if pad else 0
        self.conv = nn.Conv2d(inputs, outputs, sides, stride=stride, padding=padding, bias=False)  # type: ignore[arg-type] # a pair
        self.bn = nn.BatchNorm2d(outputs, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    """3x3 average pooling that excludes the padding, as in TensorFlow."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """Inception block at 35 x 35 px."""

    def __init__(self, inputs: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inputs, 64, 1)
        self.branch5x5_1 = Conv(inputs, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(inputs, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """Reduction block, 35 to 17 px."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inputs, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1 = Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """Inception block at 17 x 17 px, with 7x7 convolutions factorised into 1x7 and 7x1."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, inner, 1)
        self.branch7x7_2 = Conv(inner, inner, row)
        self.branch7x7_3 = Conv(inner, 192, column)
        self.branch7x7dbl_1 = Conv(768, inner, 1)
        self.branch7x7dbl_2 = Conv(inner, inner, column)
        self.branch7x7dbl_3 = Conv(inner, inner, row)
        self.branch7x7dbl_4 = Conv(inner, inner, column)
        self.branch7x7dbl_5 = Conv(inner, 192, row)
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """Reduction block, 17 to 8 px."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(768, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """Inception block at 8 x 8 px."""

    def __init__(self, inputs: int, *, max_pool: bool) -> None:
        super().__init__()
        self.max_pool = max_pool  # an error of the 2015 network that the FID must reproduce
        self.branch1x1 = Conv(inputs, 320, 1)
        self.branch3x3_1 = Conv(inputs, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3))
        self.branch3x3_2b = Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1))
        self.branch_pool = Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else _average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class Inception(nn.Module):
    """Float images (N, 3, R, R) in [-1, 1] to features (N, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, max_pool=False)
        self.Mixed_7c = BlockE(2048, max_pool=True)

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features: Tensor = x.mean((2, 3))
        return features


def load_inception(data: bytes) -> Inception:
    """The network with its weights, in eval mode on this machine's device.

    Raises:
        InceptionError: not a safetensors file of these weights.
    """
    network = Inception()
    try:
        tensors = load(data)
        # The file also holds the classification head, which is not used.
        network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("fc.")})
    except (SafetensorError, RuntimeError) as error:
        raise InceptionError(
            "not the weights of pytorch-fid's InceptionV3 as safetensors"
        ) from error
    return network.eval().requires_grad_(False).to(best_device())


@torch.inference_mode()
def inception_features(network: Inception, images: Tensor, batch_size: int = 50) -> Tensor:
    """Features, float32 (N, 2048), of uint8 images (N, 1 or 3, R, R); grey is repeated to RGB."""
    device = next(network.parameters()).device
    parts = [
        network(to_float(part).to(device).expand(-1, 3, -1, -1))
        for part in images.split(batch_size)
    ]
    return torch.cat(parts)
