"""The CNN: it learns categories, its features are usable, its penalties act."""

import math
import time

import pytest
import torch

from models.data.datasets import Dataset
from models.networks.classifier import (
    Classifier,
    ClassifierConfig,
    accuracy,
    fit,
    predict,
    weight_penalty,
)

TINY = {"categories": 2, "width": 8, "features": 16, "batch_size": 16}


@pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1)])
def test_logits_and_features_fit_every_resolution(resolution: int, channels: int) -> None:
    config = ClassifierConfig(resolution=resolution, channels=channels, **TINY)
    network = Classifier(config).eval()
    images = torch.rand(3, channels, resolution, resolution) * 2 - 1
    assert network(images).shape == (3, 2)
    features = network.features(images)
    assert features.shape == (3, 16)
    assert (features >= 0).all()


def test_it_learns_the_categories(squares: Dataset) -> None:
    torch.manual_seed(0)
    network = Classifier(ClassifierConfig(resolution=28, epochs=5, **TINY))
    batches = list(fit(network, squares))
    assert len(batches) == 5 * 3
    assert [batches[0].fraction, batches[-1].fraction] == [1 / 15, 1]
    assert batches[-1].loss < 0.5 * batches[0].loss
    assert not network.training
    assert accuracy(network, squares.images, squares.labels) == 1.0


def test_a_limited_time_is_kept_and_shortens_the_schedule(squares: Dataset) -> None:
    network = Classifier(ClassifierConfig(resolution=28, epochs=10_000, **TINY))
    began = time.monotonic()
    batches = list(fit(network, squares, seconds=1.0))
    assert time.monotonic() - began < 3  # with the measuring, on a busy machine
    assert 1 <= len(batches) < 10_000
    assert network.config.epochs == round(len(batches) / 3, 3)
    assert not network.training


def test_enough_time_changes_nothing(squares: Dataset) -> None:
    fitted = []
    for seconds in (math.inf, 3600.0):
        torch.manual_seed(0)
        network = Classifier(ClassifierConfig(resolution=28, epochs=1.5, **TINY))
        assert len(list(fit(network, squares, seconds))) == 4  # of 3 an epoch
        assert network.config.epochs == 1.5
        fitted.append(network.hidden.weight.detach())
    assert torch.equal(*fitted)


def test_predictions_are_probabilities(squares: Dataset) -> None:
    network = Classifier(ClassifierConfig(resolution=28, **TINY)).eval()
    probabilities = predict(network, squares.images, batch_size=7)
    assert probabilities.shape == (48, 2)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(48))


def test_the_penalty_is_the_norms_of_the_weights_alone() -> None:
    network = torch.nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, -4.0]]))
        network.bias.fill_(100.0)
    torch.testing.assert_close(weight_penalty(network, l1=1, l2=0), torch.tensor(7.0))
    torch.testing.assert_close(weight_penalty(network, l1=0, l2=2), torch.tensor(25.0))


def test_a_strong_penalty_shrinks_the_weights(squares: Dataset) -> None:
    norms = []
    for l2 in (0.0, 0.1):
        torch.manual_seed(0)
        network = Classifier(ClassifierConfig(resolution=28, l2=l2, epochs=3, **TINY))
        list(fit(network, squares))
        norms.append(float(network.hidden.weight.detach().square().sum()))
    assert norms[1] < 0.9 * norms[0]


@pytest.mark.parametrize(
    ("field", "value"), [("resolution", 4), ("channels", 2), ("epochs", 0), ("l2", -1.0)]
)
def test_an_impossible_classifier_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        ClassifierConfig(**{field: value})  # type: ignore[arg-type] # wrong on purpose
