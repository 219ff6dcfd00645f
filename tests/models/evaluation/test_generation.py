"""Generation of the images that are scored."""

import torch

from models.data.datasets import Dataset
from models.evaluation.generation import generate_matching
from models.networks.gan import GanConfig, Generator


def test_images_are_made_in_the_wanted_categories() -> None:
    config = GanConfig(resolution=28, categories=2, z_dim=8, generator_width=4)
    generator = Generator(config).eval()
    labels = torch.arange(6) % 2
    blank = torch.zeros(6, 1, 28, 28, dtype=torch.uint8)
    test = Dataset(images=blank, labels=labels, categories=("left", "right"))
    images = generate_matching(generator, test)
    assert (images.shape, images.dtype) == ((6, 1, 28, 28), torch.uint8)
    assert torch.equal(images, generate_matching(generator, test))
    flipped = Dataset(images=blank, labels=1 - labels, categories=test.categories)
    assert not torch.equal(images, generate_matching(generator, flipped))
