"""Attributes of a data set's photos: what their products look like, and how far masks are trusted.

They are stored as JSON lines, one for each photo, in the order of the canonical zip.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from models.cutouts.colors import Lab, color_name, product_color
from models.cutouts.doubt import measure_trust
from models.cutouts.masks import Segmentation
from models.cutouts.studio import bounding_box
from models.data.report import Json
from models.imaging.lab import to_lab
from models.imaging.pixels import to_pixels

# Raised with every change of masks, weights or attributes: those of another method are made anew.
METHOD = "1"
COLUMNS = (
    *("file", "category", "color", "lab_l", "lab_a", "lab_b", "fill"),
    *("area", "contact", "entropy", "doubts", "given"),
)
LISTED = 20  # doubtful photos in a summary


@dataclass(frozen=True, kw_only=True)
class PhotoAttributes:
    """One photo; what cannot be measured without a product is None."""

    file: str  # in the canonical zip
    category: str
    color: str | None  # a name of `models.cutouts.colors`
    lab: Lab | None  # median colour of the product
    fill: float | None  # the product's longer side as a share of the photo's
    area: float  # the product's share of the photo
    contact: float
    entropy: float
    doubts: tuple[str, ...]  # why the mask is doubtful; empty: it is not
    given: dict[str, str] = field(default_factory=dict)  # by the upload's `attributes.csv`

    @classmethod
    def measure(
        cls, file: str, category: str, image: Image.Image, segmentation: Segmentation
    ) -> "PhotoAttributes":
        """Of an L or RGB photo and what was found in it."""
        trust, mask = measure_trust(segmentation), segmentation.mask
        lab = fill = None
        if not segmentation.is_empty:
            left, top, right, bottom = bounding_box(mask)
            fill = round(max(right - left, bottom - top) / max(image.size), 3)
            lab = product_color(to_pixels(image), mask)
        return cls(
            file=file,
            category=category,
            color=None if lab is None else color_name(lab),
            lab=lab,
            fill=fill,
            doubts=tuple(trust.doubts),
            **{name: round(value, 4) for name, value in asdict(trust).items()},
        )


def overridden(attributes: PhotoAttributes, given: dict[str, str]) -> PhotoAttributes:
    """The attributes where a shop has given some itself: its colour counts, as a name or a code."""
    color = given.get("color")
    changed = replace(attributes, given=given)
    if color is None:
        return changed
    if not color.startswith("#"):
        return replace(changed, color=color)
    x, y, z = to_lab(np.frombuffer(bytes.fromhex(color[1:]), np.uint8)).tolist()
    lab = round(x, 1), round(y, 1), round(z, 1)
    return replace(changed, color=color_name(lab), lab=lab)


def dump(attributes: Iterable[PhotoAttributes]) -> bytes:
    """JSON lines, as `parse` reads them."""
    return "".join(json.dumps(asdict(each)) + "\n" for each in attributes).encode()


def as_csv(attributes: Iterable[PhotoAttributes]) -> str:
    """A header and one line for each photo; several doubts are joined by semicolons."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for each in attributes:
        lab = each.lab or (None, None, None)
        about = (each.file, each.category, each.color, *lab, each.fill)
        trust = (each.area, each.contact, each.entropy, "; ".join(each.doubts))
        writer.writerow([*about, *trust, json.dumps(each.given) if each.given else None])
    return text.getvalue()


def parse(data: bytes) -> list[PhotoAttributes]:
    """The inverse of `dump`.

    Raises:
        ValueError: the lines are damaged.
    """
    try:
        return [_from_json(json.loads(line)) for line in data.splitlines()]
    except (TypeError, LookupError) as error:
        raise ValueError("the attributes are damaged") from error


def summarise(attributes: Sequence[PhotoAttributes]) -> dict[str, Json]:
    """How many photos are doubtful, the first of them, and the colours of each category."""
    doubtful = [each for each in attributes if each.doubts]
    colors: dict[str, Counter[str]] = {}
    for each in attributes:
        colors.setdefault(each.category, Counter()).update([each.color or "unknown"])
    first: list[Json] = [
        {"file": each.file, "category": each.category, "doubts": list(each.doubts)}
        for each in doubtful[:LISTED]
    ]
    return {
        "photos": len(attributes),
        "doubtful": len(doubtful),
        "first_doubtful": first,
        "colors": {name: dict(counts.most_common()) for name, counts in colors.items()},
    }


def _from_json(fields: dict[str, Any]) -> PhotoAttributes:
    lab, doubts = fields["lab"], tuple(fields["doubts"])
    lab = None if lab is None else tuple(lab)
    return PhotoAttributes(**{**fields, "doubts": doubts, "lab": lab})
