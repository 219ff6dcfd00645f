"""Metrics: against values known by hand, scipy, and what each must notice."""

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor

from models.evaluation.metrics import _squared_mmd as squared_mmd
from models.evaluation.metrics import (
    authenticity,
    diversity,
    frechet_distance,
    frechet_distance_at_infinity,
    kernel_distance,
    nearest,
    overlap,
)


def normal(rows: int, features: int, seed: int) -> Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed))


def line(*positions: float) -> Tensor:
    """Images with one feature."""
    return torch.tensor(positions, dtype=torch.float32)[:, None]


def test_the_frechet_distance_of_a_stretched_and_moved_set_is_known() -> None:
    real = normal(500, 4, 0).double()
    real = (real - real.mean(0)) / real.std(0)
    # Every variance is 1, so stretching by 3 adds (3 - 1)^2 for each of the four features.
    assert frechet_distance(real, 3 * real + 2) == pytest.approx(4 * 2**2 + 4 * 2**2)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_agrees_with_scipy() -> None:
    mixing = normal(6, 6, 3)
    real, fake = normal(400, 6, 1) @ mixing, normal(300, 6, 2) + 0.5
    covariances = [np.cov(x.double().numpy(), rowvar=False) for x in (real, fake)]
    cross = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    difference = (real.double().mean(0) - fake.double().mean(0)).numpy()
    expected = difference @ difference + np.trace(covariances[0] + covariances[1] - 2 * cross)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-9)


def test_extrapolation_removes_the_bias_of_few_images() -> None:
    # Two draws of one distribution, so that the truth is 0.
    pairs = [(normal(2000, 32, seed), normal(2000, 32, seed + 100)) for seed in range(6)]
    assert min(frechet_distance(*pair) for pair in pairs) > 0.25
    extrapolated = [frechet_distance_at_infinity(*pair) for pair in pairs]
    assert abs(float(np.mean(extrapolated))) < 0.02
    assert max(map(abs, extrapolated)) < 0.1


def test_extrapolation_keeps_a_real_distance() -> None:
    real, fake = normal(2000, 16, 1), normal(2000, 16, 2) + 1
    assert frechet_distance_at_infinity(real, fake) == pytest.approx(16, rel=0.03)


def test_the_frechet_distance_of_fewer_images_than_features_is_exact() -> None:
    real, fake = normal(30, 6, 1), normal(20, 6, 2) + 0.5
    # Features that are always 0 change nothing but the way it is computed.
    wide = [F.pad(x, (0, 100)) for x in (real, fake)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_extrapolation_needs_more_images_than_features() -> None:
    with pytest.raises(ValueError, match="8 images are too few to extrapolate in 8 features"):
        frechet_distance_at_infinity(normal(8, 8, 0), normal(100, 8, 1))


def test_the_kernel_distance_of_two_pairs_is_known() -> None:
    # k(x, y) = (x y + 1)^3: within the reals k(0, 1) = 1, within the fakes k(1, 2) = 27, across
    # k(0, 1), k(0, 2), k(1, 1), k(1, 2) = 1, 1, 8, 27.
    expected = 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4
    assert float(squared_mmd(line(0, 1), line(1, 2))) == pytest.approx(expected)


def test_the_kernel_distance_of_two_points_is_known_and_certain() -> None:
    # k(0, 0) + k(1, 1) - 2 k(0, 1) = 1 + 8 - 2, whichever images a subset draws.
    estimate = kernel_distance(line(0, 0, 0, 0), line(1, 1, 1, 1))
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((7, 7, 7))


@pytest.mark.parametrize("subset_size", [30, 1000])
def test_the_interval_of_the_kernel_distance_covers_what_other_images_would_give(
    subset_size: int,
) -> None:
    estimates = [
        kernel_distance(normal(200, 4, s), normal(200, 4, s + 999) + 0.4, subset_size=subset_size)
        for s in range(100)
    ]
    truth = float(np.mean([estimate.value for estimate in estimates]))
    covered = sum(estimate.low < truth < estimate.high for estimate in estimates)
    assert 85 <= covered <= 100
    widths = [estimate.high - estimate.low for estimate in estimates]
    spread = float(np.std([estimate.value for estimate in estimates]))
    assert float(np.mean(widths)) == pytest.approx(2 * 1.96 * spread, rel=0.4)


def test_the_kernel_distance_is_unbiased() -> None:
    values = [
        kernel_distance(normal(100, 8, seed), normal(100, 8, seed + 1000), subsets=2).value
        for seed in range(200)
    ]
    mean, error = float(np.mean(values)), float(np.std(values)) / len(values) ** 0.5
    assert abs(mean) < 3 * error
    assert min(values) < 0


def test_the_kernel_distance_tells_sets_apart() -> None:
    real, near, far = normal(1000, 8, 1), normal(1000, 8, 2) + 0.2, normal(1000, 8, 3) + 0.5
    small, large = (kernel_distance(real, x, subset_size=300) for x in (near, far))
    assert 0 < small.low < small.high < large.low


def test_diversity_is_the_spread_within_categories_alone() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    real = line(0, 2, 100, 102)
    assert diversity(real, line(0, 1, 500, 501), labels, labels) == pytest.approx(0.5)
    assert diversity(real, line(7, 7, 9, 9), labels, labels) == 0
    assert diversity(real, real[[2, 3, 0, 1]], labels, labels.flip(0)) == pytest.approx(1)


def test_diversity_ignores_categories_of_one_image() -> None:
    labels = torch.tensor([0, 0, 1])
    assert diversity(line(0, 2, 9), line(5, 9, 1), labels, labels) == pytest.approx(2)


def test_overlap_on_a_line_is_known() -> None:
    # One neighbour: the reals' radii are 1, 1, 2, the fakes' are 0.5, 0.5 and 89.3.
    result = overlap(line(0, 1, 3), line(0.2, 0.7, 90), neighbours=1)
    assert result.precision == pytest.approx(2 / 3)  # 90 is in no neighbourhood
    assert result.density == pytest.approx((2 + 2 + 0) / 3)  # 0.2 and 0.7 are in those of 0 and 1
    assert result.coverage == pytest.approx(2 / 3)  # 3 reaches down to 1 only
    assert result.recall == pytest.approx(3 / 3)  # 0 and 1 by 0.2 and 0.7, 3 by the outlier


def test_two_draws_of_one_distribution_overlap() -> None:
    result = overlap(normal(2000, 8, 1), normal(2000, 8, 2))
    assert result.precision == pytest.approx(result.recall, abs=0.03)
    assert result.density == pytest.approx(1, abs=0.05)
    assert result.coverage > 0.93


def test_a_lost_mode_costs_recall_and_coverage_but_no_precision() -> None:
    modes = torch.tensor([-20.0, 20.0]).repeat(500)[:, None]
    real, fake = normal(1000, 4, 1) + modes, normal(1000, 4, 2) + 20
    result = overlap(real, fake)
    assert result.precision > 0.8
    assert result.recall < 0.5
    assert result.coverage <= 0.5


def test_images_off_the_manifold_cost_precision() -> None:
    real = normal(1000, 4, 1)
    fake = torch.cat([normal(500, 4, 2), normal(500, 4, 3) + 50])
    result = overlap(real, fake)
    assert result.precision == pytest.approx(0.5, abs=0.06)
    assert result.coverage > 0.75


def test_copies_are_not_authentic_and_new_images_are_about_half_the_time() -> None:
    train = normal(2000, 8, 1)
    assert authenticity(train, train[:500] + 1e-3) == 0
    assert authenticity(train, normal(2000, 8, 2)) == pytest.approx(0.5, abs=0.05)
    assert authenticity(train, normal(500, 8, 3) + 100) == 1


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(300, 4, 1), normal(200, 4, 2) + 0.3
    whole = overlap(real, fake), authenticity(real, fake), nearest(fake, real)[1]
    monkeypatch.setattr("models.evaluation.metrics.ROWS_AT_ONCE", 7)
    pieces = overlap(real, fake), authenticity(real, fake), nearest(fake, real)[1]
    assert pieces[:2] == whole[:2]
    assert torch.equal(pieces[2], whole[2])


def test_the_nearest_is_found() -> None:
    distance, index = nearest(line(0.9, 5), line(0, 1, 4))
    torch.testing.assert_close(distance, torch.tensor([0.1, 1.0]))
    assert index.tolist() == [1, 2]
