"""Heat map: where the evidence is, as gradients would find it."""

import numpy as np
import torch
import torch.nn.functional as F

from models.classification.heat_map import draw_heat, heat_of
from models.classification.photo_classifier import PhotoClassifier, look


def test_heat_is_where_the_category_has_its_evidence() -> None:
    maps = torch.zeros(3, 7, 7)
    maps[0, 2, 5] = 4.0  # speaks for it
    maps[1, 6, 0] = 4.0  # speaks against it
    maps[0, 0, 0] = 2.0
    heat = heat_of(maps, torch.tensor([1.0, -1.0, 0.5]))
    assert heat[2, 5] == 1
    assert heat[0, 0] == 0.5
    assert heat.sum() == 1.5


def test_heat_is_grad_cam(classifier: PhotoClassifier) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    maps = look([image])
    probe = classifier.probe
    watched = maps.clone().requires_grad_()
    features = (watched.mean((2, 3)) - probe.mean) / probe.deviation
    (features @ probe.weight + probe.bias)[0, 1].backward()
    assert watched.grad is not None
    importance = watched.grad.mean((2, 3))[0]  # equation 1 of the paper
    wanted = F.relu((importance[:, None, None] * maps[0]).sum(0))  # equation 2
    found = heat_of(maps[0], classifier.weights_of(1))
    torch.testing.assert_close(found, wanted / wanted.max(), atol=1e-5, rtol=1e-4)


def test_without_evidence_there_is_no_heat() -> None:
    assert heat_of(torch.ones(2, 7, 7), torch.tensor([-1.0, 0.0])).sum() == 0


def test_the_picture_is_bright_where_it_is_hot() -> None:
    image = np.full((224, 224, 3), 128, dtype=np.uint8)
    heat = torch.zeros(7, 7)
    heat[1, 5] = 1.0
    drawn = draw_heat(image, heat)
    assert drawn.shape == (224, 224, 3)
    assert drawn.dtype == np.uint8
    row, column = np.unravel_index(drawn.sum(2).argmax(), (224, 224))
    assert (row // 32, column // 32) == (1, 5)
    assert drawn[200, 20].max() < 128
    assert draw_heat(image[..., :1], heat).tobytes() == drawn.tobytes()
