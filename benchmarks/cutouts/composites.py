"""Composites with known masks: products cut out of clean photos, or drawn, on other backgrounds.

A photo is clean where the network's masks at two resolutions agree, and nothing touches the
border. Its product, moved to another background, is a picture that the network has not seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.cutouts import backgrounds
from benchmarks.uploads.near_duplicates import decoded
from models.cutouts.masks import clean_mask
from models.cutouts.studio import bounding_box
from models.imaging.pixels import Pixels, resize, to_image, to_pixels
from models.inference.backbones import open_backbone

KINDS = ("real", "textured", "like-coloured", "light", "dark")
AGREEING = (224, 320)  # resolutions of the masks of a clean photo
CLEAN_IOU = 0.975
SIDE = 320  # of a composite
DRAWN_EVERY = 4  # composites; of the others the product is of a photo
SHAPES: dict[str, list[tuple[float, float]]] = {  # outlines in a unit square
    "t-shirt": [(0.3, 0), (0.7, 0), (1, 0.2), (0.9, 0.36), (0.78, 0.3), (0.78, 1), (0.22, 1),
                (0.22, 0.3), (0.1, 0.36), (0, 0.2)],
    "trousers": [(0.2, 0), (0.8, 0), (0.95, 1), (0.62, 1), (0.5, 0.3), (0.38, 1), (0.05, 1)],
    "skirt": [(0.3, 0), (0.7, 0), (0.98, 1), (0.02, 1)],
    "shoe": [(0, 0.5), (0.3, 0.3), (0.4, 0.1), (0.62, 0.45), (0.95, 0.55), (1, 0.8), (0, 0.85)],
}  # fmt: skip


@dataclass(frozen=True)
class Composite:
    """A picture, the mask that is known of it (uint8, 255 inside), and its background's kind."""

    kind: str
    pixels: Pixels
    mask: Pixels


@dataclass(frozen=True)
class CleanPhoto:
    """A photo with a mask that can be relied on."""

    pixels: Pixels
    mask: Pixels


def clean_photos(archive: Path, wanted: int, seed: int) -> Iterator[CleanPhoto]:
    """Photos with reliable masks, drawn from the archive."""
    photos = [image.convert("RGB") for _, image in decoded(archive)]
    networks = [open_backbone("u2net-p", "masks", resolution=side) for side in AGREEING]
    found = 0
    for index in np.random.default_rng(seed).permutation(len(photos)):
        pixels = to_pixels(photos[index])
        cleaned = [clean_mask(net([pixels])[0, 0].numpy(), photos[index].size) for net in networks]
        inside = [each.mask >= 128 for each in cleaned]
        border = (inside[1][0], inside[1][-1], inside[1][:, 0], inside[1][:, -1])
        if any(map(np.any, border)) or iou(*inside) < CLEAN_IOU:
            continue
        yield CleanPhoto(pixels, cleaned[1].mask)
        found += 1
        if found == wanted:
            return


def composites(photos: Sequence[CleanPhoto], count: int, seed: int) -> Iterator[Composite]:
    """Composites of all kinds in turn."""
    rng = np.random.default_rng(seed)
    strips = [
        strip for photo in photos for strip in backgrounds.strips_of(photo.pixels, photo.mask)
    ]
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        is_drawn = (index // len(KINDS)) % DRAWN_EVERY == 0
        product = _drawn(rng) if is_drawn else photos[int(rng.integers(len(photos)))]
        pixels, mask = _placed(rng, product)
        if kind == "real":
            behind = backgrounds.real(rng, (SIDE, SIDE), strips)
        elif kind == "like-coloured":
            color = np.median(pixels[mask[..., 0] == 255], axis=0)
            behind = backgrounds.like_coloured(rng, (SIDE, SIDE), color)
        else:
            behind = backgrounds.PLAIN[kind](rng, (SIDE, SIDE))
        yield Composite(kind, *_pasted(pixels, mask, behind))


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two sets of pixels."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def _placed(rng: np.random.Generator, product: CleanPhoto) -> tuple[Pixels, Pixels]:
    """The product at a random place and size, as (SIDE, SIDE, 3) and (SIDE, SIDE, 1)."""
    left, top, right, bottom = bounding_box(product.mask)
    scale = rng.uniform(0.4, 0.85) * SIDE / max(right - left, bottom - top)
    width, height = round((right - left) * scale), round((bottom - top) * scale)
    x, y = (int(rng.integers(4, SIDE - side - 3)) for side in (width, height))
    placed = []
    for source in (product.pixels, product.mask):
        canvas = np.zeros((SIDE, SIDE, source.shape[2]), dtype=np.uint8)
        cut = resize(source[top:bottom, left:right], (width, height))
        canvas[y : y + height, x : x + width] = cut
        placed.append(canvas)
    return placed[0], placed[1]


def _pasted(pixels: Pixels, mask: Pixels, behind: Pixels) -> tuple[Pixels, Pixels]:
    """The product on its background, with the soft shadow that lies around it, and its mask."""
    # Its outermost pixels show what was behind it before.
    core = to_image(mask).filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.7))
    shadow = core.filter(ImageFilter.GaussianBlur(6))
    dimmed = behind * (1 - 0.3 * to_pixels(shadow) / 255)
    opacity = to_pixels(core) / 255
    blended = pixels * opacity + dimmed * (1 - opacity)
    return blended.round().astype(np.uint8), to_pixels(core)


def _drawn(rng: np.random.Generator) -> CleanPhoto:
    """A garment of flat cloth or stripes, drawn."""
    outline = SHAPES[str(rng.choice(list(SHAPES)))]
    mask = Image.new("L", (SIDE, SIDE))
    margin, span = 8, SIDE - 16
    points = [(margin + x * span, margin + y * span) for x, y in outline]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    size = (SIDE, SIDE)
    plain = backgrounds.like_coloured(rng, size, rng.uniform(20, 235, 3))
    cloth = backgrounds.textured(rng, size) if rng.random() < 0.5 else plain
    return CleanPhoto(cloth, to_pixels(mask))
