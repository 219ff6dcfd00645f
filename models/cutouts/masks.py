"""Masks: what U2-Net-p sees of a product, cleaned up to a matte with a narrow soft edge.

Shapes: R side of the network's square, H height, W width of the photo.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.cutouts.components import Flags, label_components
from models.imaging.pixels import Pixels

OUTLINE = 128  # of a mask: what is at least so opaque is the product's
INSIDE = 0.5  # of what the network sees: from here on, a pixel counts as the product's
KEPT_SHARE = 0.1  # of the largest part's area, that further parts need, as of a pair of shoes
HOLE_SHARE = 0.01  # of the product's area; a smaller hole is closed
EDGE_SHARE = 1 / 100  # of the side: the mask is soft so far to both sides of its outline
STRETCH = (0.1, 0.9)  # at the edge, from transparent to opaque


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The network's answer for one photo, and the mask that was made of it."""

    seen: NDArray[np.float32]  # (R, R) in [0, 1]
    product: Flags  # (R, R), without small parts and holes
    edge: Flags  # (R, R): near the product's outline
    mask: Pixels  # (H, W, 1): 255 is the product, 0 its background

    @property
    def is_empty(self) -> bool:
        """Whether no product was found, or one so thin that it is nowhere opaque."""
        return bool(self.mask.max() < OUTLINE)


def clean_mask(seen: NDArray[np.float32], size: tuple[int, int]) -> Segmentation:
    """Make the mask of a photo of `size` (width, height) from the network's (R, R).

    The largest parts stay and small holes are closed. Only near the outline is the mask soft.
    """
    product = _without_holes(_largest(seen >= INSIDE))
    reach = max(1, round(EDGE_SHARE * len(seen)))
    inner, outer = _grown(product, -reach), _grown(product, reach)
    low, high = STRETCH
    soft = np.clip((seen - low) / (high - low), 0, 1)
    # A closed hole and an uncertain inside are opaque; what is apart from the product is gone.
    matte = np.where(inner, 1.0, np.where(outer, np.maximum(soft, product & (seen < INSIDE)), 0.0))
    small = Image.fromarray((255 * matte).round().astype(np.uint8))
    mask = np.asarray(small.resize(size, Image.Resampling.BICUBIC))[..., None]
    return Segmentation(seen=seen, product=product, edge=outer & ~inner, mask=mask)


def _largest(flags: Flags) -> Flags:
    """The largest region, and those that are not much smaller."""
    labels = label_components(flags)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    kept: Flags = (areas >= max(1, KEPT_SHARE * areas.max()))[labels]
    return kept


def _without_holes(product: Flags) -> Flags:
    labels = label_components(~product)
    areas = np.bincount(labels.ravel())
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    small = areas <= HOLE_SHARE * product.sum()
    small[0] = False
    small[border] = False
    filled: Flags = product | small[labels]
    return filled


def _grown(flags: Flags, pixels: int) -> Flags:
    """The region with so many pixels more to all sides; fewer where negative."""
    # Beyond the picture's border the region goes on, so that a product is not soft where it ends.
    padded = np.pad(flags, abs(pixels), mode="edge")
    image = Image.fromarray(np.where(padded, 255, 0).astype(np.uint8))
    kernel = 2 * abs(pixels) + 1
    moved = image.filter(
        ImageFilter.MaxFilter(kernel) if pixels > 0 else ImageFilter.MinFilter(kernel)
    )
    edge = abs(pixels)
    grown: Flags = np.asarray(moved)[edge:-edge, edge:-edge] > 0
    return grown
