"""Linear probe: multinomial logistic regression on frozen features, with calibrated probabilities.

Probe: "Understanding intermediate layers using linear classifier probes" - Alain and Bengio, 2016
(https://arxiv.org/abs/1610.01644). Calibration by one temperature: "On Calibration of Modern Neural
Networks" - Guo et al., 2017 (https://arxiv.org/abs/1706.04599).

Shapes: N images, D features, K categories. Features are float32, labels int64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.progress import Steps, run, scaled

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # weights of half the squared norm, tried in turn
FOLDS = 4  # of the cross-validation that chooses the penalty and the temperature
MOST_ITERATIONS = 60  # of L-BFGS
MOST_IMAGES = 20_000  # more make the fit slower and hardly better


@dataclass(frozen=True)
class LinearProbe:
    """Category probabilities from features."""

    mean: Tensor  # (D,) of the fitted features, and their deviation
    deviation: Tensor
    weight: Tensor  # (D, K)
    bias: Tensor  # (K,)
    temperature: float
    penalty: float  # of the fit

    def probabilities(self, features: Tensor) -> Tensor:
        """Calibrated, (N, K) of (N, D); each row sums to 1."""
        logits = self._scaled(features) @ self.weight + self.bias
        return (logits / self.temperature).softmax(1)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of images whose likeliest category is their label."""
        return float((self.probabilities(features).argmax(1) == labels).float().mean())

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


def fit_probe(
    features: Tensor,
    labels: Tensor,
    categories: int,
    *,
    penalty: float | None = None,
    seed: int = 0,
) -> LinearProbe:
    """Fit on (N, D); penalty and temperature come from cross-validation within these images.

    With a given penalty there is no cross-validation, and the temperature is 1.
    """
    if penalty is None:
        return run(fit_probe_steps(features, labels, categories, seed=seed))
    order = _drawn(len(labels), seed)
    mean, deviation, x = _standardised(features[order].float())
    weight, bias = _fit(x, labels[order], categories, penalty)
    return LinearProbe(mean, deviation, weight, bias, 1.0, penalty)


def fit_probe_steps(
    features: Tensor,
    labels: Tensor,
    categories: int,
    *,
    photos: Tensor | None = None,
    seed: int = 0,
) -> Steps[LinearProbe]:
    """`fit_probe` with cross-validation, which yields after each fit.

    `photos` (N,) tells which photo an image shows: images of one photo are left out together, so
    that a probe is never validated on what it has seen.
    """
    order = _drawn(len(labels), seed)
    shown = torch.arange(len(labels)) if photos is None else photos
    folds = _fold_of(shown[order])
    mean, deviation, x = _standardised(features[order].float())
    labels = labels[order]
    validating = _cross_validated(x, labels, categories, folds)
    penalty, temperature = yield from scaled(validating, 0.0, 0.9)
    weight, bias = _fit(x, labels, categories, penalty)
    return LinearProbe(mean, deviation, weight, bias, temperature, penalty)


def _drawn(count: int, seed: int) -> Tensor:
    """Indices of at most MOST_IMAGES images, in random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:MOST_IMAGES]


def _standardised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation, and the features of mean 0 and deviation 1."""
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
    return mean, deviation, (features - mean) / deviation


def _fold_of(photos: Tensor) -> Tensor:
    """The fold (N,) of each image, the same for all images of a photo."""
    found, places = photos.unique(return_inverse=True)
    first = torch.full((len(found),), len(photos)).scatter_reduce(
        0, places, torch.arange(len(photos)), "amin"
    )
    return first.argsort().argsort()[places] % min(FOLDS, len(found))


def _cross_validated(
    x: Tensor, labels: Tensor, categories: int, folds: Tensor
) -> Steps[tuple[float, float]]:
    """The penalty of the lowest cross-entropy on images left out, and its best temperature."""
    best = (float("inf"), PENALTIES[-1], 1.0)
    for index, penalty in enumerate(PENALTIES):
        logits = torch.zeros(len(labels), categories)
        for fold in folds.unique():
            yield (index + float(fold) / FOLDS) / len(PENALTIES)
            out = folds == fold
            weight, bias = _fit(x[~out], labels[~out], categories, penalty)
            logits[out] = x[out] @ weight + bias
        temperature = _best_temperature(logits, labels)
        loss = float(F.cross_entropy(logits / temperature, labels))
        best = min(best, (loss, penalty, temperature))
    return best[1], best[2]


def _best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Of a grid from 0.25 to 8, the one of the lowest cross-entropy."""
    grid = [2 ** (step / 8) for step in range(-16, 25)]
    return min(grid, key=lambda t: float(F.cross_entropy(logits / t, labels)))


def _fit(x: Tensor, labels: Tensor, categories: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight (D, K) and bias (K,) that minimise cross-entropy + penalty / 2 * |weight|^2."""
    weight = torch.zeros(x.shape[1], categories, requires_grad=True)
    bias = torch.zeros(categories, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, labels)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()
        return float(value.detach())

    with torch.enable_grad(), _one_thread():
        optimizer.step(loss)
    return weight.detach(), bias.detach()


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: more wait for each other in these small steps, five times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
