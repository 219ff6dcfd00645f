"""Linear probe: it separates, and its probabilities mean what they say."""

import pytest
import torch
from torch import Tensor

from models.evaluation.linear_probe import fit_probe, fit_probe_steps
from models.progress import run

CATEGORIES = 4


def groups(count: int, seed: int, spread: float) -> tuple[Tensor, Tensor]:
    """Features (N, 16) around one centre a category, and their labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CATEGORIES, (count,), generator=random)
    centres = torch.eye(16)[:CATEGORIES]
    return centres[labels] + spread * torch.randn(count, 16, generator=random), labels


def test_separate_groups_are_told_apart() -> None:
    probe = fit_probe(*groups(200, 0, 0.1), CATEGORIES)
    features, labels = groups(200, 1, 0.1)
    assert probe.accuracy(features, labels) == 1
    assert probe.accuracy(features, (labels + 1) % CATEGORIES) == 0


@pytest.mark.parametrize("spread", [0.3, 0.6, 1.0])
def test_probabilities_are_calibrated(spread: float) -> None:
    probe = fit_probe(*groups(600, 0, spread), CATEGORIES)
    features, labels = groups(4000, 1, spread)
    probabilities = probe.probabilities(features)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4000))
    # The mean confidence is the accuracy.
    confidence = float(probabilities.max(1).values.mean())
    assert confidence == pytest.approx(probe.accuracy(features, labels), abs=0.04)


def test_a_fit_is_repeatable_and_ignores_the_scale_of_features() -> None:
    features, labels = groups(300, 0, 0.5)
    others, _ = groups(50, 1, 0.5)
    one, again = (fit_probe(features, labels, CATEGORIES) for _ in range(2))
    assert torch.equal(one.probabilities(others), again.probabilities(others))
    scaled = fit_probe(1000 * features + 5, labels, CATEGORIES)
    torch.testing.assert_close(
        scaled.probabilities(1000 * others + 5), one.probabilities(others), atol=1e-3, rtol=1e-2
    )


def test_a_category_of_one_image_does_not_break_the_fit() -> None:
    features, labels = groups(40, 0, 0.1)
    labels[labels == 3] = 2
    labels[0] = 3
    assert fit_probe(features, labels, CATEGORIES).probabilities(features).isfinite().all()


def test_two_images_of_one_photo_are_left_out_together() -> None:
    random = torch.Generator().manual_seed(0)
    # Features that tell nothing but which photo it is: what is known by heart looks certain.
    features = torch.randn(60, 64, generator=random).repeat(2, 1)
    labels = torch.randint(CATEGORIES, (60,), generator=random).repeat(2)
    photos = torch.arange(60).repeat(2)
    unaware = run(fit_probe_steps(features, labels, CATEGORIES))
    aware = run(fit_probe_steps(features, labels, CATEGORIES, photos=photos))
    others = torch.randn(200, 64, generator=random)
    assert unaware.probabilities(others).max(1).values.mean() > 0.6
    assert aware.probabilities(others).max(1).values.mean() < 0.45


def test_a_fit_can_be_interrupted_between_its_parts() -> None:
    shares = list(fit_probe_steps(*groups(200, 0, 0.5), CATEGORIES))
    assert len(shares) == 20
    assert shares == sorted(shares)
