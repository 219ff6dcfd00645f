"""Pixel range conversion: uint8 [0, 255] outside the networks, float32 [-1, 1] inside."""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8 [0, 255], as scored and served: x * 127.5 + 128, clamped."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [-1, 1]; the inverse of `to_uint8` on every uint8 value."""
    return (images.float() - 127.5) / 127.5
