"""The panel's judgement of grey images, in the features of a CNN fitted on the photos."""

import pytest
import torch
from torch import Tensor

from models.data.datasets import Dataset
from models.evaluation.extractors import report_extractors
from models.evaluation.feature_extractor import digest
from models.evaluation.panel import Panel
from models.evaluation.panel_report import PanelJudge, open_judge
from models.networks.classifier import Classifier, ClassifierConfig, fit
from models.networks.gan import GanConfig, Generator
from models.progress import run


def squares(count: int, seed: int) -> Dataset:
    """Noisy squares, on the left or on the right, of random brightness."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 28, 28), generator=random)
    bright = torch.randint(60, 190, (count, 1, 1, 1), generator=random)
    images[labels == 0, :, 7:21, 2:12] += bright[labels == 0]
    images[labels == 1, :, 7:21, 16:26] += bright[labels == 1]
    return Dataset(images=images.to(torch.uint8), labels=labels, categories=("left", "right"))


@pytest.fixture(scope="module")
def cnn() -> Classifier:
    config = ClassifierConfig(
        resolution=28, categories=2, width=4, features=8, epochs=4, batch_size=32
    )
    torch.manual_seed(0)
    network = Classifier(config)
    for _ in fit(network, squares(400, 1)):
        pass
    return network


@pytest.fixture(scope="module")
def judge(cnn: Classifier) -> PanelJudge:
    return run(open_judge(Panel(report_extractors(cnn)), squares(400, 1), squares(200, 2)))


def noise() -> Tensor:
    random = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (200, 1, 28, 28), generator=random).to(torch.uint8)


def test_other_real_photos_score_better_than_noise(judge: PanelJudge) -> None:
    real, noisy = (run(judge.judge_images(x)) for x in (squares(200, 3).images, noise()))
    assert real.model["category_accuracy"] > 0.95
    assert real.model["coverage_cnn"] > 0.8 > 0.3 > noisy.model["coverage_cnn"]
    assert real.model["recall_cnn"] > 0.8
    assert real.model["fd_cnn"] < noisy.model["fd_cnn"] / 10
    assert real.model["kid_cnn"] < noisy.intervals["kid_cnn"][0]
    assert real.score > 80 > 20 > noisy.score
    assert real.verdict.startswith("good")


def test_the_wrong_category_is_noticed(judge: PanelJudge) -> None:
    images = squares(200, 3).images
    swapped = images.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    report = run(judge.judge_images(swapped))
    assert report.model["category_accuracy"] < 0.05
    assert report.aspects["category"] == 0


def test_a_report_names_the_judge_and_how_many_images_it_saw(
    judge: PanelJudge, cnn: Classifier
) -> None:
    protocol = run(judge.judge_images(noise())).protocol
    assert protocol["judges"] == {"cnn": digest(cnn)}
    assert (protocol["held_out_images"], protocol["training_images"]) == (200, 400)
    assert digest(cnn) != digest(Classifier(cnn.config))


def test_a_generator_is_judged_beside_its_nearest_photos(judge: PanelJudge) -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    generator = Generator(config).eval()
    report, sheet = run(judge.evaluate(generator))
    assert report == run(judge.judge(generator))
    assert sheet.startswith(b"\x89PNG")
    assert judge.kid(report) == report.model["kid_cnn"]


def test_with_little_time_fewer_photos_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.panel.NOISE_IMAGES", 8)
    monkeypatch.setattr("models.evaluation.panel_report.FEWEST_PHOTOS", 16)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2000, 3, 32, 32), generator=random, dtype=torch.uint8)
    photos = Dataset(images=images, labels=torch.arange(2000) % 2, categories=("a", "b"))
    judge = run(open_judge(Panel(report_extractors()), photos, photos, 2.0))
    assert 8 < len(judge.held_out.labels) <= len(judge.reference.training.labels) < 200
