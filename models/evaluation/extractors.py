"""Networks in whose features images are compared.

Colour images are judged by two pretrained networks of different tasks, and a third for what chooses
among trainings: what is chosen by one judge must not be reported by the same. Grey images, which
those networks have never seen, are judged by the project's own CNN, fitted on the training photos.

Shapes: N images, C channels, R resolution in pixels, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.feature_extractor import digest
from models.inference.backbones import Backbone, open_backbone
from models.networks.classifier import Classifier, features_of
from models.progress import Steps

BATCH = 64  # images between two progress reports
SALIENCY_SIDE = 128  # px; 320, as trained, takes eight times as long
CHOICE_SIDE = 128  # px; 240, as trained, takes four times as long


class Seen(NamedTuple):
    """What a network sees in N images."""

    features: Tensor  # float32 (N, D), on the CPU
    masks: Tensor | None = None  # of the products, bool (N, R, R), if it is a network for masks


class Extractor(Protocol):
    """A frozen network."""

    @property
    def name(self) -> str:
        """Ends the names of the measures in its features."""
        ...

    @property
    def identity(self) -> str:
        """The weights and how images are fed; distances compare only where it is equal."""
        ...

    def see(self, images: Tensor) -> Seen:
        """Look at uint8 images (N, C, R, R)."""
        ...


@dataclass(frozen=True)
class CnnExtractor:
    """The project's own CNN, fitted on the training photos: the judge of grey images."""

    network: Classifier
    name: str = "cnn"

    @property
    def identity(self) -> str:
        return digest(self.network)

    def see(self, images: Tensor) -> Seen:
        return Seen(features_of(self.network, images).cpu())


@dataclass(frozen=True)
class LiteExtractor:
    """An EfficientNet-Lite, trained on ImageNet's categories."""

    name: str
    backbone: Backbone

    @property
    def identity(self) -> str:
        return f"{self.backbone.identity.weights_sha256} at {self.backbone.resolution} px"

    def see(self, images: Tensor) -> Seen:
        return Seen(self.backbone(_pixels(images), _threads()))


@dataclass(frozen=True)
class SaliencyExtractor:
    """U2-Net-p's encoder, trained to find objects; its masks tell product and background apart."""

    name: str
    backbone: Backbone

    @property
    def identity(self) -> str:
        return f"{self.backbone.identity.weights_sha256} at {self.backbone.resolution} px"

    def see(self, images: Tensor) -> Seen:
        features, masks = self.backbone.outputs(_pixels(images), _threads())
        masks = F.interpolate(masks, size=images.shape[2:], mode="bilinear", antialias=True)
        return Seen(features, masks[:, 0] > 0.5)


def report_extractors(cnn: Classifier | None = None) -> tuple[Extractor, ...]:
    """The judges that write a model's card; of grey images it is the given CNN."""
    if cnn is not None:
        return (CnnExtractor(cnn),)
    lite = open_backbone("efficientnet-lite2")
    saliency = open_backbone("u2net-p", "features_and_masks", resolution=SALIENCY_SIDE)
    return LiteExtractor("lite2", lite), SaliencyExtractor("u2netp", saliency)


def choice_extractor(cnn: Classifier | None = None) -> Extractor:
    """The judge during trainings and searches; of grey images it is the given CNN."""
    if cnn is not None:
        return CnnExtractor(cnn)
    return LiteExtractor("lite1", open_backbone("efficientnet-lite1", resolution=CHOICE_SIDE))


See = Callable[[Extractor, Tensor], Steps[Seen]]


def see_all(extractor: Extractor, images: Tensor) -> Steps[Seen]:
    """`see` batch by batch."""
    features, masks = [], []
    for start in range(0, len(images), BATCH):
        yield start / len(images)
        seen = extractor.see(images[start : start + BATCH])
        features.append(seen.features)
        if seen.masks is not None:
            masks.append(seen.masks)
    return Seen(torch.cat(features), torch.cat(masks) if masks else None)


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    """(N, C, R, R) to (N, R, R, C)."""
    pixels: NDArray[np.uint8] = images.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _threads() -> int:
    """As many as torch may use, which a process that shares its machine limits."""
    return torch.get_num_threads()
