"""Heat map of a classification: which parts of a photo speak for a category.

Paper: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" -
Selvaraju et al., 2017 (https://arxiv.org/abs/1610.02391). Behind global average pooling and a
linear probe, the gradients of a logit are the probe's weights, so that no pass backward is needed;
the map is then that of "Learning Deep Features for Discriminative Localization" - Zhou et al., 2016
(https://arxiv.org/abs/1512.04150).

Shapes: F features, M side of the feature maps, R side of an image; pixels are uint8 (R, R, C).
"""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.imaging.pixels import Pixels

# From what does not speak for the category to what does: black, violet, red, orange, pale yellow.
COLORS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
OPACITY = 0.6  # of the heat over the photo


def heat_of(maps: Tensor, weights: Tensor) -> Tensor:
    """In [0, 1], (M, M), of feature maps (F, M, M) and what each adds to a category's logit (F,).

    All 0 where no part speaks for the category.
    """
    heat = F.relu((weights[:, None, None] * maps).sum(0))
    return heat / heat.max().clamp(min=1e-12)


def draw_heat(image: Pixels, heat: Tensor) -> Pixels:
    """The heat (M, M) in colour over the image in grey; (R, R, 3)."""
    side = image.shape[0]
    large = F.interpolate(heat[None, None], (side, side), mode="bicubic")[0, 0].clamp(0, 1).numpy()
    grey = image.mean(2, keepdims=True).repeat(3, axis=2)
    drawn: Pixels = (grey + OPACITY * (_colored(large) - grey)).round().astype(np.uint8)
    return drawn


def _colored(heat: NDArray[np.float32]) -> NDArray[np.float64]:
    stops = np.linspace(0, 1, len(COLORS))
    channels = zip(*COLORS, strict=True)
    return np.stack([np.interp(heat, stops, channel) for channel in channels], axis=2)
