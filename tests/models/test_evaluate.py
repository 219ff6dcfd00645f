"""Evaluation: real photos score well, noise and copies do not, and the command says so."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.checkpoint import save_model
from models.data.datasets import Dataset
from models.evaluate import main
from models.evaluation.evaluation import (
    EvaluationSet,
    evaluate,
    evaluate_images,
    evaluation_seconds,
    extract_features,
    quick_metrics,
)
from models.evaluation.feature_extractor import digest
from models.evaluation.generation import generate_matching
from models.networks.classifier import Classifier, ClassifierConfig, fit
from models.networks.gan import GanConfig, Generator
from models.progress import run
from tests.models.pictures import saved, zipped

FEATURES = 8


def squares(count: int, seed: int) -> Dataset:
    """Noisy squares, on the left or on the right, of random brightness."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 16, 16), generator=random)
    bright = torch.randint(60, 190, (count, 1, 1, 1), generator=random)
    images[labels == 0, :, 4:12, 1:7] += bright[labels == 0]
    images[labels == 1, :, 4:12, 9:15] += bright[labels == 1]
    return Dataset(images=images.to(torch.uint8), labels=labels, categories=("left", "right"))


@pytest.fixture(scope="module")
def photos() -> EvaluationSet:
    config = ClassifierConfig(
        resolution=16, categories=2, width=4, features=FEATURES, epochs=4, batch_size=32
    )
    extractor = Classifier(config)
    for _ in fit(extractor, squares(400, 1)):
        pass
    return run(extract_features(extractor, squares(400, 1), squares(200, 2)))


def noise() -> Tensor:
    random = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (200, 1, 16, 16), generator=random).to(torch.uint8)


def test_other_real_photos_score_better_than_noise(photos: EvaluationSet) -> None:
    others = squares(200, 3)
    real, noisy = (evaluate_images(photos, x, others.labels) for x in (others.images, noise()))
    assert real.category_accuracy > 0.95
    assert real.coverage > 0.8 > 0.3 > noisy.coverage
    assert real.recall > 0.8
    assert real.fd_cnn is not None
    assert noisy.fd_cnn is not None
    assert real.fd_cnn_infinity is not None
    assert noisy.fd_cnn_infinity is not None
    assert real.fd_cnn < noisy.fd_cnn / 10
    assert real.kid_cnn.value < noisy.kid_cnn.low
    assert abs(real.fd_cnn_infinity) < noisy.fd_cnn_infinity / 10


def test_a_quick_look_takes_some_of_the_photos(photos: EvaluationSet) -> None:
    few = photos.subsample()
    assert len(few.features) == len(few.held_out.labels) <= 1000
    torch.testing.assert_close(few.features[1], photos.features[200 // len(few.features)])


def test_a_subsample_has_every_category_in_proportion(photos: EvaluationSet) -> None:
    few = photos.subsample(50)
    assert few.held_out.labels.bincount().tolist() == [25, 25]
    for index in (0, 49):
        found = (photos.held_out.images == few.held_out.images[index]).flatten(1).all(1).nonzero()
        torch.testing.assert_close(few.features[index], photos.features[int(found)])


def test_an_evaluation_in_little_time_is_of_fewer_images_and_says_so() -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=128)
    generator = Generator(config).eval()
    seen = noise_seen(20_000, epochs=100_000)
    assert evaluation_seconds(generator, seen) > 600
    began = time.monotonic()
    report, _ = run(evaluate(generator, seen, 3.0))
    assert time.monotonic() - began < 12  # on a busy machine
    compared, fitted = report.protocol["held_out_images"], report.protocol["cas_images"]
    assert isinstance(compared, int)
    assert isinstance(fitted, int)
    assert 32 <= compared == report.model.images < 10_000
    assert 32 <= fitted < 20_000
    assert report.protocol["extractor_epochs"] == 100_000
    assert float(report.protocol["cas_epochs"]) < 1000


def noise_seen(count: int, epochs: float = 3) -> EvaluationSet:
    """So many images of noise as training photos and as held-out ones, seen by a random CNN."""
    config = ClassifierConfig(resolution=28, categories=2, width=4, features=8, epochs=epochs)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=random, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    noise = Dataset(images=images, labels=labels, categories=("left", "right"))
    return run(extract_features(Classifier(config).eval(), noise, noise))


def test_the_alarm_rings_when_every_category_has_collapsed() -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    seen = noise_seen(40)
    generator = Generator(config).eval()
    torch.nn.init.zeros_(generator.stem.weight)  # the same image whatever z is
    numbers = quick_metrics(generator, seen)
    assert (numbers["diversity"], numbers["collapsed"]) == (0, 1)
    torch.nn.init.normal_(generator.stem.weight, std=30)
    torch.nn.init.normal_(generator.get_parameter("to_image.weight"), std=30)
    assert quick_metrics(generator, seen)["collapsed"] == 0


def test_the_wrong_category_is_noticed(photos: EvaluationSet) -> None:
    others = squares(200, 3)
    assert evaluate_images(photos, others.images, 1 - others.labels).category_accuracy < 0.05


def test_another_number_of_images_is_refused(photos: EvaluationSet) -> None:
    with pytest.raises(ValueError, match="200 images are needed"):
        evaluate_images(photos, noise()[:100], torch.zeros(100, dtype=torch.int64))


def test_a_digest_tells_extractors_apart(photos: EvaluationSet) -> None:
    assert digest(photos.extractor) == digest(photos.extractor)
    assert digest(photos.extractor) != digest(Classifier(photos.extractor.config))


def test_images_are_made_in_the_wanted_categories() -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    generator = Generator(config).eval()
    test = squares(6, 1)
    images = generate_matching(generator, test)
    assert (images.shape, images.dtype) == ((6, 1, 28, 28), torch.uint8)
    assert torch.equal(images, generate_matching(generator, test))
    flipped = Dataset(images=test.images, labels=1 - test.labels, categories=test.categories)
    assert not torch.equal(images, generate_matching(generator, flipped))


def test_the_command_prints_the_model_beside_the_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("train", 0), ("test", 1000)):
        (tmp_path / f"{name}.zip").write_bytes(zipped(left_and_right(seed)).getvalue())
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    (tmp_path / "model").write_bytes(save_model(Generator(config).eval(), ("left", "right")))
    paths = {name: str(tmp_path / name) for name in ("model", "train.zip", "test.zip")}
    main(
        [
            *("--model", paths["model"], "--train", paths["train.zip"]),
            *("--test", paths["test.zip"], "--neighbours", str(tmp_path / "sheet.png")),
        ]
    )

    said = json.loads(capsys.readouterr().out)
    assert said["extractor_accuracy"] > 0.95
    assert said["protocol"]["held_out_images"] == 300
    assert said["floor"]["images"] == said["model"]["images"] == 300
    assert said["floor"]["kid_cnn"]["high"] < said["model"]["kid_cnn"]["low"]
    assert 0 <= said["cas"] <= 1
    assert 0.3 < said["memorisation"]["authenticity_held_out"] < 0.7
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 1000


def left_and_right(seed: int) -> dict[str, bytes]:
    """Files of an upload: 150 dark noisy pictures of each category, one half of them bright."""
    files = {}
    random = np.random.default_rng(seed)
    for index in range(300):
        pixels = random.integers(0, 60, (28, 28), dtype=np.uint8)
        half = pixels[:, :14] if index % 2 == 0 else pixels[:, 14:]
        half += np.uint8(random.integers(60, 190))
        name = ("left", "right")[index % 2]
        files[f"{name}/{index}.png"] = saved(Image.fromarray(pixels))
    return files
