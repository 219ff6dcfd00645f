"""Photo classifier: calibrated category probabilities of photos and generated images.

It is a linear probe on the features of EfficientNet-Lite0, whose weights stay as they ship. So it
is fitted in seconds, and stored in a few dozen kilobytes. The judges of models look through other
backbones (`models.evaluation.extractors`): what chooses images must not report on them as well.

Shapes: N images, K categories, F features, M side of the feature maps; pixels are uint8 (H, W, C).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import CheckpointError, pack, unpack
from models.data.photos import fit_square
from models.evaluation.linear_probe import LinearProbe
from models.imaging.pixels import Pixels, to_image
from models.inference.backbones import LiteName, identity, open_backbone
from models.networks.efficientnet_lite import FEATURES

BACKBONE: LiteName = "efficientnet-lite0"
FORMAT = "vitrine-photo-classifier-1"
CLASSIFIER_FILE = "classifier.safetensors"  # among the files of a model version
# Capabilities of a version that has the file.
CAPABILITIES = ("classify", "min_category_probability")


class BackboneChanged(RuntimeError):
    """The classifier was fitted on other backbone weights than those that are installed."""


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """How a classifier was fitted, and how it does on photos that it was not fitted on."""

    photos: int
    resolution: int  # px; each photo was also shown shrunk to this side, as images are generated
    seconds: float
    held_out_photos: int = 0
    # None where no photos were held out.
    accuracy: float | None = None
    accuracy_small: float | None = None  # of the photos shrunk to `resolution`
    calibration_error: float | None = None  # expected, of both; 0 is perfect


@dataclass(frozen=True, kw_only=True)
class PhotoClassifier:
    """A linear probe with the names of its categories; thread-safe."""

    categories: tuple[str, ...]
    probe: LinearProbe
    report: FitReport

    def probabilities(self, images: Iterable[Pixels], threads: int = 1) -> Tensor:
        """Calibrated, (N, K); each image's are a function of its own pixels alone."""
        return self.probabilities_of(look(images, threads))

    def probabilities_of(self, maps: Tensor) -> Tensor:
        """Calibrated, (N, K), of what `look` returns; row by row, for the same reason."""
        return torch.cat([self.probe.probabilities(row.mean((2, 3))) for row in maps.split(1)])

    def weights_of(self, label: int) -> Tensor:
        """What each feature map adds to the logit of a category, (F,)."""
        return self.probe.weight[:, label] / self.probe.deviation


def look(images: Iterable[Pixels], threads: int = 1) -> Tensor:
    """Feature maps (N, F, M, M) of images of any sizes.

    Always on the CPU and one by one: a batch, or another device, would change the last bits, and
    with them which images pass a limit.
    """
    backbone = open_backbone(BACKBONE, "feature_maps", torch.device("cpu"))
    return backbone((squared(image) for image in images), threads)


def squared(image: Pixels) -> Pixels:
    """Padded to a square, undistorted, as the photos that models are trained on."""
    longest = max(image.shape[:2])
    return fit_square(to_image(image), longest, channels=image.shape[2])


def describe_in_card(card: dict[str, Any], report: FitReport) -> None:
    """Add to a model's card what its classifier can do, and how well."""
    card["capabilities"] |= dict.fromkeys(CAPABILITIES, True)
    card["metrics"]["classifier"] = asdict(report)


def save_photo_classifier(classifier: PhotoClassifier) -> bytes:
    """Serialise a classifier, without its backbone."""
    probe = classifier.probe
    tensors = {
        "mean": probe.mean,
        "deviation": probe.deviation,
        "weight": probe.weight,
        "bias": probe.bias,
    }
    header: dict[str, object] = {
        "categories": classifier.categories,
        "backbone": asdict(identity(BACKBONE)),
        "temperature": probe.temperature,
        "penalty": probe.penalty,
        "report": asdict(classifier.report),
    }
    return pack({name: each.contiguous() for name, each in tensors.items()}, FORMAT, header)


def load_photo_classifier(data: bytes) -> PhotoClassifier:
    """Rebuild a classifier.

    Raises:
        CheckpointError: the bytes are not a valid classifier.
        BackboneChanged: it was fitted on another backbone than the one that is installed.
    """
    tensors, header = unpack(data, FORMAT)
    try:
        if header["backbone"] != asdict(identity(BACKBONE)):
            raise BackboneChanged("it was fitted on another version of the backbone")
        return _built(tensors, header)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("the classifier is damaged") from error


def _built(tensors: dict[str, Tensor], header: dict[str, Any]) -> PhotoClassifier:
    categories = tuple(str(name) for name in header["categories"])
    shapes = {
        "mean": (FEATURES,),
        "deviation": (FEATURES,),
        "weight": (FEATURES, len(categories)),
        "bias": (len(categories),),
    }
    if {name: tuple(each.shape) for name, each in tensors.items()} != shapes:
        raise ValueError("the tensors do not fit the categories")
    return PhotoClassifier(
        categories=categories,
        probe=LinearProbe(
            mean=tensors["mean"],
            deviation=tensors["deviation"],
            weight=tensors["weight"],
            bias=tensors["bias"],
            temperature=float(header["temperature"]),
            penalty=float(header["penalty"]),
        ),
        report=FitReport(**header["report"]),
    )
