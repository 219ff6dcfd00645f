"""Comparison of generators during training: with some of the photos, and an alarm of collapse."""

import torch

from models.data.datasets import Dataset
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos, photos_within
from models.evaluation.extractors import CnnExtractor, choice_extractor, report_extractors
from models.networks.classifier import Classifier, ClassifierConfig
from models.networks.gan import GanConfig, Generator
from models.progress import run


def random_cnn() -> CnnExtractor:
    config = ClassifierConfig(resolution=28, categories=2, width=4, features=8)
    return CnnExtractor(Classifier(config).eval())


def noise(count: int) -> Dataset:
    """So many images of noise in two categories."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=random, dtype=torch.uint8)
    return Dataset(images=images, labels=torch.arange(count) % 2, categories=("left", "right"))


def looked_at(count: int, most: float = 200) -> EvaluationSet:
    return run(look_at_photos(random_cnn(), noise(count), noise(count), most))


def test_some_of_the_photos_are_compared_of_every_category_in_proportion() -> None:
    few, all_ = looked_at(400, most=50), looked_at(400, most=400)
    assert few.held_out.labels.bincount().tolist() == [25, 25]
    for index in (0, 49):
        found = (all_.held_out.images == few.held_out.images[index]).flatten(1).all(1).nonzero()
        seen = few.extractor.see(all_.held_out.images[int(found)][None]).features[0]
        torch.testing.assert_close(few.features[index], seen)


def test_the_alarm_rings_when_every_category_has_collapsed() -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    seen = looked_at(40)
    generator = Generator(config).eval()
    torch.nn.init.zeros_(generator.stem.weight)  # the same image whatever z is
    numbers = seen.quick_metrics(generator)
    assert (numbers["diversity"], numbers["collapsed"]) == (0, 1)
    torch.nn.init.normal_(generator.stem.weight, std=30)
    torch.nn.init.normal_(generator.get_parameter("to_image.weight"), std=30)
    assert seen.quick_metrics(generator)["collapsed"] == 0


def test_a_comparison_is_repeatable_and_depends_on_the_seeds() -> None:
    seen = looked_at(40)
    generator = Generator(GanConfig(resolution=28, categories=2, generator_width=4)).eval()
    torch.nn.init.normal_(generator.get_parameter("to_image.weight"), std=30)
    first, again, other = (run(seen.compare(generator, seed)) for seed in (5, 5, 6000))
    assert first == again != other


def test_the_time_bounds_how_many_photos_are_compared() -> None:
    photos = noise(400)
    assert photos_within(random_cnn(), photos, 0.0) == 64
    assert photos_within(random_cnn(), photos, 60.0) > 400


def test_no_network_of_the_report_compares_during_training() -> None:
    reporting = {extractor.identity for extractor in report_extractors()}
    assert choice_extractor().identity not in reporting
