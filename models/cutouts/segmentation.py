"""Segmentation: the products of a data set's photos found by U2-Net-p, on several cores.

Shapes: H height, W width, R the network's resolution.
"""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import torch
from PIL import Image

from models.cutouts.attributes import PhotoAttributes
from models.cutouts.masks import Segmentation, clean_mask
from models.data.canonical_archive import map_ahead
from models.data.photos import decode_kept
from models.data.upload_import import label_of
from models.imaging.pixels import Pixels, to_image, to_pixels
from models.inference.backbones import open_backbone

PNG_LEVEL = 6


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """What is kept of one photo."""

    mask_png: bytes  # 8 bits, of the photo's size
    attributes: PhotoAttributes


def segment(image: Image.Image) -> Segmentation:
    """Find the product of an L or RGB photo."""
    seen = open_backbone("u2net-p", "masks")([to_pixels(image)])[0, 0]
    return clean_mask(seen.numpy(), image.size)


def cut_out_photos(source: IO[bytes], categories: Sequence[str]) -> Iterator[CutOut]:
    """The masks and attributes of a canonical zip's photos, in its order."""

    def cut_out(item: tuple[str, bytes]) -> CutOut:
        name, content = item
        image = decode_kept(content)
        found = segment(image)
        category = categories[label_of(name)]
        attributes = PhotoAttributes.measure(name, category, image, found)
        return CutOut(mask_png=_encoded(found.mask), attributes=attributes)

    with zipfile.ZipFile(source) as archive:
        items = ((name, archive.read(name)) for name in archive.namelist())
        yield from map_ahead(cut_out, items, torch.get_num_threads())


def decode_mask(content: bytes) -> Pixels:
    """The mask, (H, W, 1), in a file of `CutOut`."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        return to_pixels(image)


def _encoded(mask: Pixels) -> bytes:
    file = io.BytesIO()
    to_image(mask).save(file, "png", compress_level=PNG_LEVEL)
    return file.getvalue()
