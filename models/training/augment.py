"""Differentiable augmentation, applied inside the discriminator to real and fake images alike.

Paper: "Differentiable Augmentation for Data-Efficient GAN Training" - Zhao et al., 2020
(https://arxiv.org/abs/2006.10738): colour, translation and cutout. Ours differs: each of the three
acts on an image with probability `p`, as in "Training Generative Adversarial Networks with Limited
Data" - Karras et al., 2020 (https://arxiv.org/abs/2006.06676), whose result is that the generator
does not learn the augmentations while p stays below 0.8.

Applied to real images alone, augmentations would leak into the samples. All randomness comes from
the CPU generator that the caller passes, so that a training can be repeated on any device.

Shapes: N images, C channels, R resolution in pixels. Images are float32 in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS = 1.0  # width of the range added to an image
SATURATION = (0.0, 2.0)
CONTRAST = (0.5, 1.5)
SHIFT = 1 / 8  # of the side, in either direction
HOLE = 1 / 2  # of the side


def augment(images: Tensor, p: float, random: torch.Generator) -> Tensor:
    """Images (N, C, R, R), each augmented at random; the same tensor object where p is 0."""
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1]; got {p}")
    if p == 0:
        return images
    for change in (recolour, translate, cut_out):
        chosen = (torch.rand(len(images), generator=random) < p).to(images.device)
        images = torch.where(chosen[:, None, None, None], change(images, random), images)
    return images


def recolour(images: Tensor, random: torch.Generator) -> Tensor:
    """Brightness, saturation (of colour images) and contrast, in the paper's order and ranges."""

    def draw(low: float, high: float) -> Tensor:
        values = torch.rand(len(images), 1, 1, 1, generator=random) * (high - low) + low
        return values.to(images.device, images.dtype)

    images = images + draw(-BRIGHTNESS / 2, BRIGHTNESS / 2)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * draw(*SATURATION)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * draw(*CONTRAST)


def translate(images: Tensor, random: torch.Generator) -> Tensor:
    """Shift by whole pixels along both axes; pixels from outside the image are zero."""
    count, _, side, _ = images.shape
    reach = round(side * SHIFT)
    shifts = torch.randint(-reach, reach + 1, (2, count, 1), generator=random).to(images.device)
    padded = F.pad(images, (reach, reach, reach, reach))
    rows, columns = torch.arange(side, device=images.device) + reach + shifts  # (N, R) each
    number = torch.arange(count, device=images.device)
    # The advanced indices move to the front, (N, R, R), with the channels behind.
    moved = padded.permute(0, 2, 3, 1)[number[:, None, None], rows[:, :, None], columns[:, None]]
    return moved.permute(0, 3, 1, 2)


def cut_out(images: Tensor, random: torch.Generator) -> Tensor:
    """Zero a square of half the side, its centre anywhere in the image."""
    count, _, side, _ = images.shape
    half = side * HOLE / 2
    centres = torch.randint(0, side, (2, count, 1), generator=random).to(images.device)
    rows, columns = (torch.arange(side, device=images.device) - centres).abs() < half  # (N, R)
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(hole, 0)
