"""InceptionV3: the network whose features the FID is defined by.

With random weights it has been compared with torch-fidelity's port of the same network: the
features were equal to the last bit. That package needs torchvision, which has no CPU build to be
installed here, so the comparison is not repeated.
"""

import pytest
import torch
from safetensors.torch import save
from torch import nn

from models.data.datasets import Dataset
from models.evaluate import measure_by_inception
from models.evaluation.extractors import report_extractors
from models.evaluation.inception import (
    Inception,
    InceptionError,
    inception_features,
    load_inception,
)
from models.evaluation.panel import Panel
from models.evaluation.panel_report import open_judge
from models.networks.classifier import Classifier, ClassifierConfig
from models.networks.gan import GanConfig, Generator
from models.progress import run


@pytest.fixture(scope="module")
def weights() -> bytes:
    torch.manual_seed(0)
    network = Inception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return save(network.state_dict() | {"fc.weight": torch.zeros(1008, 2048)})


def test_it_has_as_many_weights_as_the_published_network() -> None:
    # torchvision's inception_v3 without auxiliary head, less its last layer.
    assert sum(p.numel() for p in Inception().parameters()) == 23_834_568 - 2_049_000


def test_features_depend_on_the_image_alone(weights: bytes) -> None:
    network = load_inception(weights)
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=random).to(torch.uint8)
    together = inception_features(network, images)
    assert together.shape == (3, 2048)
    assert (together >= 0).all()
    alone = inception_features(network, images[1:2])
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1], rtol=0.01)


def test_a_grey_image_counts_as_its_colour_twin(weights: bytes) -> None:
    network = load_inception(weights)
    grey = torch.randint(0, 256, (1, 1, 28, 28)).to(torch.uint8)
    colour = grey.expand(-1, 3, -1, -1)
    torch.testing.assert_close(
        inception_features(network, grey), inception_features(network, colour)
    )


def test_a_model_and_the_floor_are_measured_by_it(weights: bytes) -> None:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (24, 1, 28, 28), generator=random).to(torch.uint8)
    parts = [
        Dataset(images=part, labels=torch.arange(len(part)) % 2, categories=("a", "b"))
        for part in images.split(12)
    ]
    cnn = Classifier(ClassifierConfig(resolution=28, categories=2, width=4)).eval()
    judge = run(open_judge(Panel(report_extractors(cnn)), parts[0], parts[1]))
    generator = Generator(GanConfig(resolution=28, categories=2, generator_width=4)).eval()
    found = measure_by_inception(weights, generator, judge)
    assert found.keys() == {"weights_sha256", "model", "floor"}
    model, floor = found["model"], found["floor"]
    assert isinstance(model, dict)
    assert isinstance(floor, dict)
    assert model["fid"] is None  # 12 images have no covariance of 2048 features
    assert model["kid"]["value"] > floor["kid"]["value"]  # a flat picture is no noise


@pytest.mark.parametrize("data", [b"", b"not safetensors", save({"x": torch.zeros(1)})])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(InceptionError, match="pytorch-fid"):
        load_inception(data)
