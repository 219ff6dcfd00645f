"""Backbones: the pretrained networks that ship with the project, run on images.

The EfficientNet-Lites classify photos; U2-Net-p separates a product from its background.
Cards name those that took part by their `identity`. `python -m models.backbones` makes the files.

Shapes: N images, H height, W width, C image channels (1 grey, 3 sRGB), R a backbone's resolution.
"""

import hashlib
import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL.Image import Resampling
from safetensors.torch import load
from torch import Tensor, nn

from models.imaging.pixels import Pixels, resize
from models.inference.engine_onnx import exported, open_session
from models.networks import u2net
from models.networks.efficientnet_lite import (
    LITE0,
    LITE1,
    LITE2,
    EfficientNetLite,
    EfficientNetLiteConfig,
)
from models.networks.layers import best_device
from models.networks.pixel_range import to_float
from models.networks.u2net import U2NetP, pooled

LiteName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
BackboneName = LiteName | Literal["u2net-p"]
Output = Literal["features", "feature_maps", "logits", "masks", "features_and_masks"]
LITE_OUTPUTS: tuple[Output, ...] = ("features", "feature_maps", "logits")
OUTPUTS: dict[BackboneName, tuple[Output, ...]] = {
    "efficientnet-lite0": LITE_OUTPUTS,
    "efficientnet-lite1": LITE_OUTPUTS,
    "efficientnet-lite2": LITE_OUTPUTS,
    "u2net-p": ("features", "masks", "features_and_masks"),
}

Network = TypeVar("Network", bound=nn.Module)

LITES: dict[LiteName, EfficientNetLiteConfig] = {
    "efficientnet-lite0": LITE0,
    "efficientnet-lite1": LITE1,
    "efficientnet-lite2": LITE2,
}
FOLDER = Path(__file__).parents[1] / "pretrained" / "backbones"
GPU_BATCH = 32  # images


class BackboneError(RuntimeError):
    """The weights of a backbone are damaged."""


@dataclass(frozen=True)
class Identity:
    """What a card says of a backbone that took part; numbers compare only where it is equal."""

    name: BackboneName
    weights_sha256: str


def identity(name: BackboneName) -> Identity:
    """Read from the backbone's card."""
    card = json.loads((FOLDER / name / "card.json").read_text())
    return Identity(name, card["weights_sha256"])


def resolution_of(name: BackboneName) -> int:
    """Side in pixels of the images that a backbone was trained on."""
    return u2net.RESOLUTION if name == "u2net-p" else LITES[name].resolution


def load_efficientnet(name: LiteName) -> EfficientNetLite:
    """Frozen, in eval mode, on the CPU.

    Raises:
        BackboneError: its weights are damaged.
    """
    return _load(name, EfficientNetLite(LITES[name]))


def load_u2net() -> U2NetP:
    """Frozen, in eval mode, on the CPU.

    Raises:
        BackboneError: its weights are damaged.
    """
    return _load("u2net-p", U2NetP())


def _load(name: BackboneName, network: Network) -> Network:
    wanted = identity(name).weights_sha256
    data = (FOLDER / name / "model.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != wanted:
        raise BackboneError(f"{name}: the weights are not those of its card; install them again")
    network.load_state_dict(load(data))
    return network.eval().requires_grad_(False)


_opening = threading.Lock()  # so that two threads do not open the same one


def open_backbone(
    name: BackboneName,
    output: Output = "features",
    device: torch.device | None = None,
    resolution: int | None = None,
) -> "Backbone":
    """A backbone ready to run, the same one for the whole process, by default on the GPU if any.

    It is fed images of `resolution`, by default that of its training.
    """
    with _opening:
        return _opened(name, output, device or best_device(), resolution or resolution_of(name))


@cache
def _opened(
    name: BackboneName, output: Output, device: torch.device, resolution: int
) -> "Backbone":
    return Backbone(name, output, device, resolution)


class Backbone:
    """One output of a backbone: by ONNX Runtime on a CPU, by torch elsewhere; thread-safe.

    `features` are (N, 1280), or (N, 384) of U2-Net-p's encoder. Of the EfficientNet-Lites,
    `feature_maps` are (N, 1280, H, W), whose means over H and W are the features, and `logits`
    (N, 1000). Of U2-Net-p, `masks` are (N, 1, R, R) in [0, 1]. All are float32.
    """

    def __init__(
        self, name: BackboneName, output: Output, device: torch.device, resolution: int
    ) -> None:
        self.identity = identity(name)
        self._device = device
        self.resolution = resolution
        if output not in OUTPUTS[name]:
            raise ValueError(f"{name} has no {output}")
        network = load_u2net() if name == "u2net-p" else load_efficientnet(name)
        from_pixels = _FromPixels(network, output)
        if device.type == "cpu":
            example = torch.zeros(2, resolution, resolution, 3, dtype=torch.uint8)
            self._session = open_session(
                exported(from_pixels, {"pixels": example}, 1 + (output == "features_and_masks"))
            )
        else:
            # The shape overload of Module.to is missing from torch's annotations.
            layout = {"device": device, "memory_format": torch.channels_last}
            self._network = from_pixels.to(**layout)  # type: ignore[call-overload]

    def __call__(self, images: Iterable[Pixels], threads: int = 1) -> Tensor:
        """The only output; see `outputs`."""
        (output,) = self.outputs(images, threads)
        return output

    def outputs(self, images: Iterable[Pixels], threads: int = 1) -> list[Tensor]:
        """The outputs, on the CPU, of uint8 images (H, W, C) of any sizes, or of (N, H, W, C).

        Images are squeezed into squares by antialiased bicubic resizing. On a CPU each is computed
        alone, on one of `threads` threads, so that its bits do not depend on the others.
        """
        with ThreadPoolExecutor(threads) as pool:
            if self._device.type == "cpu":
                parts = list(pool.map(self._by_onnx, images))
            else:
                pixels = torch.cat(list(pool.map(self._squeezed, images)))
                parts = [self._by_torch(batch) for batch in pixels.split(GPU_BATCH)]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    def _by_onnx(self, image: Pixels) -> list[Tensor]:
        outputs = self._session.run(None, {"pixels": self._squeezed(image).numpy()})
        return [torch.from_numpy(output) for output in outputs]

    @torch.inference_mode()
    def _by_torch(self, pixels: Tensor) -> list[Tensor]:
        # Without TF32, whose ten bits would show in features and masks.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs: tuple[Tensor, ...] = self._network(pixels.to(self._device))
        return [output.cpu() for output in outputs]

    def _squeezed(self, image: Pixels) -> Tensor:
        return squeezed(image, self.resolution)


def squeezed(image: Pixels, resolution: int) -> Tensor:
    """uint8 (H, W, C) to (1, R, R, 3): antialiased bicubic, grey repeated to RGB."""
    pixels = resize(image, (resolution, resolution), Resampling.BICUBIC)
    return torch.from_numpy(np.repeat(pixels, 3 // pixels.shape[2], axis=2)).unsqueeze(0)


class _FromPixels(nn.Module):
    """uint8 pixels (N, R, R, 3) to outputs of a backbone."""

    def __init__(self, network: EfficientNetLite | U2NetP, output: Output) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        images = to_float(pixels.permute(0, 3, 1, 2))
        if self.output == "features":
            return (self.network.features(images),)
        if self.output == "feature_maps":
            assert isinstance(self.network, EfficientNetLite)
            return (self.network.feature_maps(images),)
        if self.output == "features_and_masks":
            assert isinstance(self.network, U2NetP)
            stages = self.network.encode(images)
            return pooled(stages), self.network.decode(stages)
        return (self.network(images),)
