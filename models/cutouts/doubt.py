"""Doubt: whether a mask is likely to be wrong, so that its photo is better kept as it is."""

from dataclasses import dataclass

import numpy as np

from models.cutouts.masks import Segmentation

# From which value on a mask is doubtful, and why; by `benchmarks.cutouts` and by eye.
SMALLEST, LARGEST = 0.02, 0.85  # area, of the photo's
MOST_CONTACT = 0.1  # of the photo's border, that the product touches
MOST_ENTROPY = 0.04  # bits for each pixel of the product


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What tells how far a mask can be trusted."""

    area: float  # of the photo, in [0, 1]
    contact: float  # share of the photo's border that the product touches
    entropy: float  # bits of uncertainty away from the outline, for each pixel of the product

    @property
    def doubts(self) -> list[str]:
        """Why the mask is doubtful, in words; empty if it is not."""
        if self.area < SMALLEST:
            return ["the product is too small or was not found"]
        found = []
        if self.area > LARGEST:
            found.append("the product fills nearly the whole photo")
        if self.contact > MOST_CONTACT:
            found.append("the product is cut off by the border")
        if self.entropy > MOST_ENTROPY:
            found.append("the product's outline is unclear")
        return found


def measure_trust(segmentation: Segmentation) -> Trust:
    """Measure the mask of one photo."""
    product = segmentation.product
    border = np.concatenate([product[0], product[-1], product[:, 0], product[:, -1]])
    p = segmentation.seen.clip(1e-6, 1 - 1e-6)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return Trust(
        area=float(product.mean()),
        contact=float(border.mean()),
        entropy=float(bits[~segmentation.edge].sum() / max(1, product.sum())),
    )
