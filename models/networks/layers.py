"""Network building blocks, their initialisation, device selection and mixed precision.

Shapes: N batch, F feature maps, H and W height and width in pixels.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

GeneratorNorm = Literal["batch", "none"]
Upsampling = Literal["transposed", "nearest"]
Downsampling = Literal["strided", "pooled"]


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
    """Residual block that doubles the side; (N, inputs, H, W) -> (N, outputs, 2H, 2W).

    Pre-activation as in "Identity Mappings in Deep Residual Networks" - He et al., 2016
    (https://arxiv.org/abs/1603.05027), with `depth` 3x3 convolutions after the doubling one. The
    transposed 4x4 convolution is the default because it costs less than half of upsampling followed
    by a 3x3 convolution, which matters on a CPU.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        upsampling: Upsampling = "transposed",
        depth: int = 1,
        norm: GeneratorNorm = "batch",
    ) -> None:
        super().__init__()
        self.norm = _norm(norm, inputs)
        self.up = _doubling(inputs, outputs, upsampling)
        self.convs = nn.ModuleList()
        for _ in range(depth):
            conv = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
            he_init(conv)
            self.convs.append(
                nn.Sequential(_norm(norm, outputs), nn.LeakyReLU(0.2, inplace=True), conv)
            )
        self.skip = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(F.leaky_relu(self.norm(x), 0.2))
        for conv in self.convs:
            h = conv(h)
        doubled: Tensor = F.interpolate(self.skip(x), scale_factor=2) + h
        return doubled


class ResidualDown(nn.Module):
    """x + conv(act(x)), `depth` times, then a halving; (N, inputs, H, W) -> (N, outputs, H/2, W/2).

    No normalisation: a logit must depend on its own image alone, as gradient penalties require.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        spectral: bool,
        downsampling: Downsampling = "strided",
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for _ in range(depth):
            conv = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1)
            he_init(conv)
            if not spectral:
                # The block starts as its halving convolution alone, whatever its depth.
                nn.init.zeros_(conv.weight)
            self.convs.append(spectral_norm(conv) if spectral else conv)
        if downsampling == "strided":
            down = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
        else:
            down = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        he_init(down)
        self.down = spectral_norm(down) if spectral else down
        self.pool: nn.Module = nn.AvgPool2d(2) if downsampling == "pooled" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, 0.2))
        down: Tensor = self.pool(self.down(F.leaky_relu(x, 0.2)))
        return down


class SelfAttention(nn.Module):
    """Self-attention over all positions; (N, F, H, W) -> same. The identity at initialisation.

    Paper: "Self-Attention Generative Adversarial Networks" - Zhang et al., 2019
    (https://arxiv.org/abs/1805.08318). PyTorch's fused attention is not used, because it has no
    second derivative, which gradient penalties need.
    """

    def __init__(self, maps: int, *, spectral: bool = False) -> None:
        super().__init__()
        narrow, half = max(maps // 8, 1), max(maps // 2, 1)

        def convolution(inputs: int, outputs: int) -> nn.Module:
            layer = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
            return spectral_norm(layer) if spectral else layer

        self.query = convolution(maps, narrow)
        self.key = convolution(maps, narrow)
        self.value = convolution(maps, half)
        self.out = convolution(half, maps)
        self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (f(x).flatten(2) for f in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(dim=2)  # (N, HW, HW)
        seen = value @ weights.transpose(1, 2)  # (N, F / 2, HW)
        attended: Tensor = x + self.strength * self.out(seen.unflatten(2, x.shape[2:]))
        return attended


def _norm(kind: GeneratorNorm, maps: int) -> nn.Module:
    return nn.BatchNorm2d(maps) if kind == "batch" else nn.Identity()


def _doubling(inputs: int, outputs: int, kind: Upsampling) -> nn.Module:
    """The convolution that doubles the side."""
    if kind == "nearest":
        conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        he_init(conv)
        return nn.Sequential(nn.Upsample(scale_factor=2), conv)
    up = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
    # Each output pixel sees 4 of the 16 taps of every input map.
    nn.init.normal_(up.weight, 0.0, (2 / (4 * inputs)) ** 0.5)
    assert up.bias is not None
    nn.init.zeros_(up.bias)
    return up


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` computes bf16 natively; emulated, it is slower than float32."""
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
    """He initialisation: keeps the signal's variance through LeakyReLU 0.2 without normalisation.

    Paper: "Delving Deep into Rectifiers" - He et al., 2015 (https://arxiv.org/abs/1502.01852).
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
