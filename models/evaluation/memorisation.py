"""Memorisation check: whether a generator copies training photos, and a sheet to inspect it.

Each generated image is compared with its nearest training photo, in the CNN's features, and so is
each held-out photo. A generator that has learnt the distribution is as far from the training photos
as held-out photos are; one that copies them is nearer.

Paper: "How Faithful is your Synthetic Data?" - Alaa et al., 2022 (https://arxiv.org/abs/2102.08921).

Shapes: N training photos, M generated images, D features, C channels, R resolution in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.evaluation.metrics import authenticity, nearest
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode

SUSPICIOUS = 0.5  # of the held-out photos' authenticity; below, the model is flagged
ROWS = 10  # of the closest images, and as many of others
NEIGHBOURS_SHOWN = 4
HEADINGS = ((0, "generated"), (1, "nearest photos"))
TILE = 64  # px


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """How near generated images and held-out photos are to their nearest training photos."""

    authenticity: float  # share of images that are not copies; see `metrics.authenticity`
    authenticity_held_out: float  # the same of the held-out photos
    nearest_distance: float  # median distance to the nearest training photo
    nearest_distance_held_out: float
    flagged: bool  # authenticity is below SUSPICIOUS times that of held-out photos


def memorisation(train: Tensor, held_out: Tensor, fake: Tensor) -> Memorisation:
    """Compare features of training (N, D), held-out (K, D) and generated (M, D) images."""
    ours, theirs = authenticity(train, fake), authenticity(train, held_out)
    return Memorisation(
        authenticity=ours,
        authenticity_held_out=theirs,
        nearest_distance=float(nearest(fake, train)[0].median()),
        nearest_distance_held_out=float(nearest(held_out, train)[0].median()),
        flagged=ours < SUSPICIOUS * theirs,
    )


def neighbour_sheet(
    photos: Tensor, photo_features: Tensor, images: Tensor, image_features: Tensor
) -> bytes:
    """PNG of generated images (M, C, R, R), each beside its nearest photos (N, C, R, R).

    The first rows are the images closest to a training photo. The others are spaced evenly over the
    rest, and so over the categories if the images are sorted by category.
    """
    distances, _ = nearest(image_features, photo_features)
    order = distances.argsort().cpu()
    closest = order[:ROWS].tolist()
    rest = sorted(order[ROWS:].tolist())
    step = max(1, len(rest) // ROWS)
    others = rest[step // 2 :: step][:ROWS]
    rows, names = [], []
    for kind, chosen in (("closest", closest), ("other", others)):
        for number, index in enumerate(chosen, start=1):
            gaps = torch.cdist(image_features[index : index + 1], photo_features)[0]
            count = min(NEIGHBOURS_SHOWN, len(photos))
            found = gaps.topk(count, largest=False).indices.tolist()
            rows.append([_pixels(images[index]), *(_pixels(photos[other]) for other in found)])
            names.append(f"{kind} {number}")
    tile = max(TILE, images.shape[2])
    return encode(contact_sheet(rows, names, tile=tile, headings=HEADINGS), "png")


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = image.permute(1, 2, 0).cpu().numpy()
    return pixels
