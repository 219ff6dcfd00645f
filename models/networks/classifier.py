"""CNN classifier: predicts a product's category and extracts features for the metrics.

Convolution, max-pooling and fully connected layers in the manner of "Gradient-Based Learning
Applied to Document Recognition" - LeCun et al., 1998, with batch norm and weight penalties.

Shapes: N batch, K categories, C image channels, R resolution in pixels, D features.
Images are float32 in [-1, 1], laid out (N, C, R, R); labels are int64 (N,).
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.datasets import Dataset
from models.networks.layers import best_device, has_fast_bf16, mixed_precision
from models.networks.pixel_range import to_float

POOLED = 4  # side of the last feature map, in pixels
WARM_UP_STEPS, TIMED_STEPS = 1, 3  # of a copy, to measure how long a step takes
TIME_SHARE = 0.8  # of the time that the planned steps may take: other load slows the rest


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Shape of the CNN and how it is fitted."""

    resolution: int = 32
    channels: int = 1
    categories: int = 10
    width: int = 32  # feature maps of the first stage; each later one has twice as many
    features: int = 256
    l1: float = 0.0  # weight of the sum of absolute weights
    l2: float = 1e-4  # weight of half the sum of squared weights
    epochs: float = 3  # need not be whole
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resolution < 2 * POOLED:
            raise ValueError(f"resolution must be at least {2 * POOLED}; got {self.resolution}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3; got {self.channels}")
        for name in ("categories", "width", "features", "epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.l1 < 0 or self.l2 < 0:
            raise ValueError(f"l1 and l2 must not be negative; got {self.l1} and {self.l2}")


class Classifier(nn.Module):
    """Images (N, C, R, R) to logits (N, K)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        stages = (config.resolution // POOLED).bit_length() - 1
        widths = [config.channels, *(config.width * min(2**i, 8) for i in range(stages))]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(2),
                )
                for inputs, outputs in zip(widths, widths[1:], strict=False)
            )
        )
        self.pool = nn.AdaptiveMaxPool2d(POOLED)  # halving 28 px gives 7, then 3, never 4
        self.hidden = nn.Linear(widths[-1] * POOLED**2, config.features)
        self.head = nn.Linear(config.features, config.categories)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate activations, float32 (N, D), not negative."""
        h: Tensor = self.pool(self.blocks(images)).flatten(1)
        return F.relu(self.hidden(h)).float()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits.float()


@dataclass(frozen=True)
class FitProgress:
    """One batch of fitting."""

    fraction: float  # done, in [0, 1]
    loss: Tensor  # cross-entropy L_C, without the penalties; on the device until it is read


def weight_penalty(network: nn.Module, l1: float, l2: float) -> Tensor:
    """l1 * sum |w| + l2 / 2 * sum w^2 over the weights, not the biases or norms."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    absolute = torch.stack([w.abs().sum() for w in weights]).sum()
    squared = torch.stack([w.square().sum() for w in weights]).sum()
    return l1 * absolute + 0.5 * l2 * squared


def fit(network: Classifier, dataset: Dataset, seconds: float = math.inf) -> Iterator[FitProgress]:
    """Fit in place on uint8 images, yielding after each batch; leaves the network in eval mode.

    Where `seconds` are too few for the configured epochs, the learning rate's schedule is made
    shorter; `network.config.epochs` then tells what was done.
    """
    until = time.monotonic() + seconds
    config = network.config
    batches = len(dataset.labels) // min(config.batch_size, len(dataset.labels))
    total = max(1, round(config.epochs * batches))
    if seconds < math.inf:
        total = max(1, min(total, int(TIME_SHARE * seconds / seconds_per_step(network, dataset))))
    step = 0
    for step, loss in enumerate(_steps(network, dataset, total), start=1):
        yield FitProgress(step / total, loss)
        if time.monotonic() > until:
            break
    if step < round(config.epochs * batches):
        network.config = replace(config, epochs=round(step / batches, 3))
    network.eval()


def seconds_per_step(network: Classifier, dataset: Dataset) -> float:
    """How long one step of `fit` takes on this machine, measured with a copy of the network."""
    steps = _steps(copy.deepcopy(network), dataset, WARM_UP_STEPS + TIMED_STEPS)
    for loss in islice(steps, WARM_UP_STEPS):
        float(loss)  # waits for the device
    began = time.perf_counter()
    for loss in steps:
        float(loss)
    return (time.perf_counter() - began) / TIMED_STEPS


def _steps(network: Classifier, dataset: Dataset, total: int) -> Iterator[Tensor]:
    """`total` optimiser steps, their learning rate scheduled over all; yields each loss."""
    config, device = network.config, best_device()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's annotations lack it
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr * 3, max(total, 2))
    bf16 = has_fast_bf16(device)
    network.train()
    for indices in islice(_batches(len(dataset.labels), config), total):
        images = to_float(dataset.images[indices])
        images = images.to(device, memory_format=torch.channels_last)
        with mixed_precision(device, enabled=bf16):
            loss = F.cross_entropy(network(images), dataset.labels[indices].to(device))
        penalty = weight_penalty(network, config.l1, config.l2)
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
        schedule.step()
        yield loss.detach()


def _batches(count: int, config: ClassifierConfig) -> Iterator[Tensor]:
    """Indices of each batch, epoch after epoch, without end."""
    random = torch.Generator().manual_seed(config.seed)
    size = min(config.batch_size, count)
    while True:
        # The last, short batch is left out; another permutation shows its images next epoch.
        yield from torch.randperm(count, generator=random).split(size)[: count // size]


@torch.inference_mode()
def predict(network: Classifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """Category probabilities, float32 (N, K), of uint8 images (N, C, R, R)."""
    device = next(network.parameters()).device
    parts = [network(to_float(part).to(device)).softmax(1) for part in images.split(batch_size)]
    return torch.cat(parts).cpu()


@torch.inference_mode()
def features_of(network: Classifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """Features, float32 (N, D) on the network's device, of uint8 images (N, C, R, R)."""
    device = next(network.parameters()).device
    parts = images.split(batch_size)
    return torch.cat([network.features(to_float(part).to(device)) for part in parts])


def accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 images (N, C, R, R) whose likeliest category is their label (N,)."""
    return float((predict(network, images).argmax(1) == labels).float().mean())
