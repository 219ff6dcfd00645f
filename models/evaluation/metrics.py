"""Metrics of generated images: Frechet distance, KID, precision, recall, diversity, ...

Every function takes features of a frozen network that was trained on the training split alone
(`models.networks.classifier`): one row per image, real before fake.

Papers: Frechet distance - Heusel et al., 2017 (https://arxiv.org/abs/1706.08500); its bias and the
extrapolation to infinitely many images - Chong and Forsyth, 2020 (https://arxiv.org/abs/1911.07023);
kernel distance - Binkowski et al., 2018 (https://arxiv.org/abs/1801.01401); precision and recall -
Kynkaanniemi et al., 2019 (https://arxiv.org/abs/1904.06991); density and coverage - Naeem et al.,
2020 (https://arxiv.org/abs/2002.09797); authenticity - Alaa et al., 2022
(https://arxiv.org/abs/2102.08921).

Shapes: N real and M fake images, D features; all features are float tensors on one device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 5  # k of precision, recall, density and coverage
ROWS_AT_ONCE = 2048  # of a distance matrix, to bound memory
EXTRAPOLATION_SIZES = 15  # of subsets
EXTRAPOLATION_DRAWS = 3  # of each size


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Overlap:
    """How two sets of images cover each other; all but `density` in [0, 1]."""

    precision: float  # share of fakes inside the real manifold
    recall: float  # share of reals inside the fake manifold
    density: float  # as precision, counting each real neighbourhood; may exceed 1
    coverage: float  # share of reals with a fake in their neighbourhood


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of (N, D) and (M, D); not negative.

    Biased upward for few images, more so for fewer: compare at equal N and M only, and where they
    are fewer than the features, only with a floor of the same N and M beside it.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError("two images of each are needed")
    real, fake = real.double(), fake.double()
    distance = (real.mean(0) - fake.mean(0)).square().sum()
    centred, centred_fake = _centred(real), _centred(fake)
    # tr C = |X|^2 of the centred features X.
    distance += centred.square().sum() + centred_fake.square().sum()
    distance -= 2 * _trace_of_root(centred, centred_fake)
    return max(float(distance), 0.0)


def frechet_distance_at_infinity(real: Tensor, fake: Tensor, *, seed: int = 0) -> float:
    """Frechet distance extrapolated to infinitely many images; may be slightly negative.

    The distance is linear in 1/N to first order. It is computed for random subsets of both sets, in
    `EXTRAPOLATION_SIZES` sizes; the result is the value of the least-squares line at 1/N = 0.
    """
    largest = min(len(real), len(fake))
    smallest = max(largest // 5, real.shape[1] + 1)
    if smallest >= largest:
        raise ValueError(f"{largest} images are too few to extrapolate in {real.shape[1]} features")
    random = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(smallest, largest, EXTRAPOLATION_SIZES).long().tolist()
    sizes *= EXTRAPOLATION_DRAWS
    distances = [
        frechet_distance(_subset(real, size, random), _subset(fake, size, random)) for size in sizes
    ]
    inverse = torch.tensor([1 / size for size in sizes], dtype=torch.float64)
    values = torch.tensor(distances, dtype=torch.float64)
    design = torch.stack([torch.ones_like(inverse), inverse], dim=1)
    return float(torch.linalg.lstsq(design, values[:, None]).solution[0])


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """KID: unbiased squared MMD under the kernel (x.y / D + 1)^3, the mean over random subsets.

    The interval covers the choice of images. It is estimated by subsampling: the standard deviation
    s of the subsets' values, scaled from their size m to N and corrected for drawing from a finite
    set ("Large Sample Confidence Regions Based on Subsamples" - Politis and Romano, 1994,
    https://doi.org/10.1214/aos/1176325770).
    """
    count = min(len(real), len(fake))
    size = min(subset_size, count // 2)
    if size < 2 or subsets < 2:
        raise ValueError(f"two subsets of two images are needed; got {subsets} of {size}")
    random = torch.Generator().manual_seed(seed)
    values = torch.stack(
        [
            _squared_mmd(_subset(real, size, random), _subset(fake, size, random))
            for _ in range(subsets)
        ]
    )
    share = size / count
    error = float(values.std()) * (share / (1 - share)) ** 0.5
    mean = float(values.mean())
    return Estimate(mean, mean - 1.96 * error, mean + 1.96 * error)


def overlap(real: Tensor, fake: Tensor, *, neighbours: int = NEIGHBOURS) -> Overlap:
    """Precision, recall, density and coverage, with `neighbours` nearest neighbours."""
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(f"more than {neighbours} images of each are needed")
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    inside_real = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    recalled, covered = [], []
    for rows, radii in zip(real.split(ROWS_AT_ONCE), real_radii.split(ROWS_AT_ONCE), strict=True):
        distances = torch.cdist(rows, fake)  # (rows, M)
        inside_real += (distances <= radii[:, None]).sum(0)
        recalled.append((distances <= fake_radii).any(1))
        covered.append(distances.amin(1) <= radii)
    return Overlap(
        precision=float((inside_real > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(inside_real.double().mean() / neighbours),
        coverage=float(torch.cat(covered).double().mean()),
    )


def diversity(real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor) -> float:
    """Spread of the fakes within a category, relative to that of the real images; at least 0.

    The root mean squared distance between images of one category, fake divided by real. Near 0,
    each category has collapsed into one image. Distances between categories do not count.
    """
    spread = _spread(fake, fake_labels) / max(_spread(real, real_labels), 1e-12)
    return float(spread**0.5)


def authenticity(train: Tensor, fake: Tensor) -> float:
    """Share of fakes that are not copies of a training image.

    A fake counts as a copy when it is nearer to its nearest training image than that one is to any
    other training image. Unseen real images score about 0.5; copies lower the share to 0.
    """
    distance, index = nearest(fake, train)
    # Radii are needed only for training images that are nearest to some fake, which are few.
    needed, place = index.unique(return_inverse=True)
    radii = _radii(train[needed], 1, among=train)
    return float((distance > radii[place]).double().mean())


def nearest(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (Q,) to and index (Q,) of the nearest of `references` (N, D) to each query."""
    found = [torch.cdist(rows, references).min(1) for rows in queries.split(ROWS_AT_ONCE)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _spread(features: Tensor, labels: Tensor) -> float:
    """Half the mean squared distance within a category; categories of one image are skipped."""
    labels = labels.to(features.device)
    groups = [features[labels == label].double() for label in labels.unique()]
    spreads = [group.var(0).sum() for group in groups if len(group) > 1]
    return float(torch.stack(spreads).mean()) if spreads else 0.0


def _centred(features: Tensor) -> Tensor:
    """X (N, D) with X^T X = C, the covariance."""
    centred: Tensor = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    return centred


def _trace_of_root(x: Tensor, y: Tensor) -> Tensor:
    """tr (C C')^(1/2) for C = X^T X of (N, D) and C' = Y^T Y of (M, D).

    C C' has the squared singular values of X Y^T as its eigenvalues.
    """
    if min(len(x), len(y)) <= x.shape[1]:
        singular: Tensor = torch.linalg.svdvals(x @ y.T)
        return singular.sum()
    # More images than features: the argument of this root is smaller, (D, D), and symmetric.
    root = _symmetric_root(x.T @ x)
    eigenvalues: Tensor = torch.linalg.eigvalsh(root @ (y.T @ y) @ root)
    return eigenvalues.clamp(min=0).sqrt().sum()


def _symmetric_root(matrix: Tensor) -> Tensor:
    """The square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _squared_mmd(real: Tensor, fake: Tensor) -> Tensor:
    """The unbiased estimate from two sets of equal size."""
    within = _kernel(real, real) + _kernel(fake, fake)
    pairs = len(real) * (len(real) - 1)
    return (within.sum() - within.trace()) / pairs - 2 * _kernel(real, fake).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.double(), y.double()
    kernel: Tensor = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _radii(features: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """Distance (N,) of each image to its k-th nearest other image in `among`, which holds all."""
    others = features if among is None else among
    return torch.cat(
        [
            # The nearest is the image itself, at distance zero.
            torch.cdist(rows, others).topk(k + 1, largest=False).values[:, k]
            for rows in features.split(ROWS_AT_ONCE)
        ]
    )


def _subset(features: Tensor, size: int, random: torch.Generator) -> Tensor:
    return features[torch.randperm(len(features), generator=random)[:size].to(features.device)]
