"""Fitting of a photo classifier on the training photos of a data set.

Each photo is shown twice: as it is stored, and shrunk to the side of generated images. Fitted on
sharp photos alone, a probe names images of 64 px far worse (`benchmarks.probe`).

Shapes: N photos, K categories, F features.
"""

import math
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

import torch
from torch import Tensor

from models.classification.photo_classifier import BACKBONE, FitReport, PhotoClassifier, squared
from models.data.photos import decode_kept, fit_square
from models.data.upload_import import label_of
from models.evaluation.linear_probe import LinearProbe, fit_probe_steps
from models.imaging.pixels import Pixels, to_pixels
from models.inference.backbones import open_backbone
from models.networks.efficientnet_lite import FEATURES
from models.progress import Steps, run, scaled

MOST_PHOTOS = 4000  # training photos; more make the fit slower and hardly better
MOST_HELD_OUT = 1000
FEWEST_PHOTOS = 64  # of the training photos, however little time there is
BATCH = 32  # photos between two progress reports
TIMED = 4  # photos, to measure the speed
FITTING_S = 2.5e-4  # for each image and category, on one CPU core
BINS = 15  # of the confidences, for the calibration error


@dataclass(frozen=True, kw_only=True)
class Photos:
    """A canonical zip, its category names, and which of its photos (N,) are held out."""

    source: IO[bytes]
    categories: tuple[str, ...]
    held_out: Tensor  # bool


class Views(NamedTuple):
    """What the backbone sees in N photos."""

    sharp: Tensor  # float32 (N, F)
    small: Tensor
    labels: Tensor  # int64 (N,)


def fit_photo_classifier(
    photos: Photos, resolution: int, seconds: float = math.inf
) -> Steps[PhotoClassifier]:
    """Fit on training photos alone, fewer where `seconds` are too few; test on held-out ones.

    `resolution` is the side of generated images, in px.
    """
    began = time.monotonic()
    with zipfile.ZipFile(photos.source) as archive:
        looker = Looker(archive, resolution)
        most = _affordable(looker, len(photos.categories), seconds)
        training = _drawn(looker.labels, ~photos.held_out, min(MOST_PHOTOS, most))
        held_out = _drawn(looker.labels, photos.held_out, min(MOST_HELD_OUT, len(training) / 5))
        share = 0.8 * len(training) / (len(training) + len(held_out))
        seen = yield from scaled(looker.look(training), 0.0, share)
        tested = yield from scaled(looker.look(held_out), share, 0.8)
    probe = yield from scaled(_fitted(seen, len(photos.categories)), 0.8)
    report = FitReport(
        photos=len(training),
        resolution=resolution,
        seconds=round(time.monotonic() - began, 1),
        held_out_photos=len(held_out),
        **(_tested(probe, tested) if len(held_out) else {}),
    )
    return PhotoClassifier(categories=photos.categories, probe=probe, report=report)


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Mean gap between confidence and accuracy over BINS bins of the confidence, in [0, 1].

    Paper: "On Calibration of Modern Neural Networks" - Guo et al., 2017
    (https://arxiv.org/abs/1706.04599), equation 3.
    """
    confidence, found = probabilities.max(1)
    gaps = confidence - (found == labels).float()
    bins = (confidence * BINS).ceil().long()
    return sum(float(gaps[bins == each].sum().abs()) for each in bins.unique()) / len(labels)


class Looker:
    """Looks at photos of a canonical zip, by index."""

    def __init__(self, archive: zipfile.ZipFile, resolution: int) -> None:
        self.archive, self.resolution = archive, resolution
        self.names = archive.namelist()
        self.labels = torch.tensor([label_of(name) for name in self.names])
        self.backbone = open_backbone(BACKBONE)

    def look(self, chosen: Tensor) -> Steps[Views]:
        """Decode the photos and compute their features."""
        none = torch.empty(0, FEATURES)
        views = Views(none, none, self.labels[chosen])
        for start in range(0, len(chosen), BATCH):
            yield start / len(chosen)
            sharp, small = zip(*map(self._decoded, chosen[start : start + BATCH]), strict=True)
            views = views._replace(
                sharp=torch.cat([views.sharp, self._features(sharp)]),
                small=torch.cat([views.small, self._features(small)]),
            )
        return views

    def _decoded(self, index: Tensor) -> tuple[Pixels, Pixels]:
        """A photo as it is stored, and shrunk."""
        image = decode_kept(self.archive.read(self.names[int(index)]))
        channels = 1 if image.mode == "L" else 3
        return squared(to_pixels(image)), fit_square(image, self.resolution, channels=channels)

    def _features(self, images: Sequence[Pixels]) -> Tensor:
        return self.backbone(images, torch.get_num_threads())


def _affordable(looker: Looker, categories: int, seconds: float) -> float:
    """How many photos can be looked at and fitted on in that time, on this machine."""
    if seconds == math.inf:
        return math.inf
    few = torch.arange(min(TIMED, len(looker.names)))
    run(looker.look(few[:1]))  # the first image takes longer
    began = time.perf_counter()
    run(looker.look(few))
    looking_s = (time.perf_counter() - began) / len(few)
    # A sixth of the photos is held out; other load slows the rest down.
    return max(FEWEST_PHOTOS, 0.7 * seconds / (looking_s + 2 * categories * FITTING_S))


def _drawn(labels: Tensor, among: Tensor, most: float) -> Tensor:
    """Indices of at most `most` photos: one of every category, then equal shares of each."""
    random = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    place = torch.full((len(labels),), math.inf)
    for label in labels[among].unique():
        own = torch.nonzero(among & (labels == label)).flatten()
        rank = random[own].argsort().argsort()
        place[own] = torch.where(rank == 0, -1.0, (rank + 0.5) / len(own))
    count = int(min(most, int(among.sum())))
    return place.argsort(stable=True)[:count].sort().values


def _fitted(seen: Views, categories: int) -> Steps[LinearProbe]:
    features, labels = torch.cat([seen.sharp, seen.small]), seen.labels.repeat(2)
    photos = torch.arange(len(seen.labels)).repeat(2)
    return fit_probe_steps(features, labels, categories, photos=photos)


def _tested(probe: LinearProbe, tested: Views) -> dict[str, float]:
    both = torch.cat([tested.sharp, tested.small])
    error = calibration_error(probe.probabilities(both), tested.labels.repeat(2))
    return {
        "accuracy": round(probe.accuracy(tested.sharp, tested.labels), 4),
        "accuracy_small": round(probe.accuracy(tested.small, tested.labels), 4),
        "calibration_error": round(error, 4),
    }
