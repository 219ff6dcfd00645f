"""Blocks shared by the networks, and how they run on this machine's device.

Shapes: N batch, F feature maps, H and W height and width in pixels.
"""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed 4x4 convolution, batch norm, ReLU; (N, inputs, H, W) -> (N, outputs, 2H, 2W)."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def down_block(inputs: int, outputs: int, *, batch_norm: bool, spectral: bool) -> nn.Sequential:
    """Strided 4x4 convolution, LeakyReLU 0.2; (N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
    convolution = nn.Conv2d(
        inputs, outputs, kernel_size=4, stride=2, padding=1, bias=not batch_norm
    )
    layers: list[nn.Module] = [spectral_norm(convolution) if spectral else convolution]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True))


class ResidualUp(nn.Module):
    """A doubling of the side around a skip; (N, inputs, H, W) -> (N, outputs, 2H, 2W).

    Pre-activation as in "Identity Mappings in Deep Residual Networks" - He et al., 2016
    (https://arxiv.org/abs/1603.05027). The strided 4x4 convolution costs a quarter of an
    upsampling followed by one, which decides on a CPU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.up = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
        # Each output pixel sees 4 of the 16 taps of every input map.
        nn.init.normal_(self.up.weight, 0.0, (2 / (4 * inputs)) ** 0.5)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        he_init(self.conv)
        self.skip = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(F.leaky_relu(self.norm1(x), 0.2))
        h = self.conv(F.leaky_relu(self.norm2(h), 0.2))
        doubled: Tensor = F.interpolate(self.skip(x), scale_factor=2) + h
        return doubled


class ResidualDown(nn.Module):
    """x + conv(act(x)), then a strided convolution; (N, inputs, H, W) -> (N, outputs, H/2, W/2).

    Without normalisation, so that each image's logit is its own, as gradient penalties need.
    """

    def __init__(self, inputs: int, outputs: int, *, spectral: bool) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1)
        down = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
        he_init(conv)
        he_init(down)
        if not spectral:
            # The block starts as its strided convolution alone, whatever its depth.
            nn.init.zeros_(conv.weight)
        self.conv = spectral_norm(conv) if spectral else conv
        self.down = spectral_norm(down) if spectral else down

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.conv(F.leaky_relu(x, 0.2))
        down: Tensor = self.down(F.leaky_relu(x, 0.2))
        return down


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is native there; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def mixed_precision(device: torch.device, *, enabled: bool) -> AbstractContextManager[object]:
    """bf16 autocast; the weights stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def normal_init(module: nn.Module) -> None:
    """DCGAN's initialisation: convolutions N(0, 0.02), batch norm scales N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        weight: Tensor = module.weight
        nn.init.normal_(weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def he_init(module: nn.Module) -> None:
    """Keeps the size of the signal through convolutions and LeakyReLU 0.2 without any norm.

    Paper: "Delving Deep into Rectifiers" - He et al., 2015 (https://arxiv.org/abs/1502.01852).
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
