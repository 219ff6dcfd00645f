"""Upload import: an uploaded zip to a canonical zip, a report and a preview image.

The module does not import torch, so that a process that only decodes uploads starts in a third of a
second.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.data.archive import ArchiveLimits
from models.data.canonical_archive import convert_archive
from models.data.given_attributes import GivenAttributes
from models.data.photos import decode_kept, fit_square
from models.data.report import DatasetReport
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode

SHEET_ROWS = 40  # categories in a preview


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Report and preview of an upload whose canonical zip is written."""

    report: DatasetReport
    preview_png: bytes
    given: GivenAttributes = GivenAttributes()


def import_photos(source: IO[bytes], target: IO[bytes], limits: ArchiveLimits) -> Imported:
    """`convert_archive` and the preview; `target` is at its beginning afterwards.

    Raises:
        DatasetError: the upload is refused; the message says what to do.
    """
    report, given = convert_archive(source, target, limits)
    target.seek(0)
    sheet = preview(target, [category.name for category in report.categories])
    target.seek(0)
    return Imported(report=report, preview_png=encode(sheet, "png"), given=given)


def preview(
    source: IO[bytes], categories: Sequence[str], *, per_category: int = 10, tile: int = 64
) -> NDArray[np.uint8]:
    """A contact sheet (H, W, 3): the first photos of each of the first SHEET_ROWS categories."""
    with zipfile.ZipFile(source) as archive:
        rows = [
            [_thumbnail(archive.read(name), tile) for name in islice(names, per_category)]
            for _, names in islice(groupby(archive.namelist(), key=label_of), SHEET_ROWS)
        ]
    return contact_sheet(rows, categories[: len(rows)], tile=tile)


def label_of(name: str) -> int:
    """The index of the category that a canonical zip's member belongs to."""
    return int(name.split("/")[0])


def _thumbnail(content: bytes, tile: int) -> NDArray[np.uint8]:
    """The photo in a square of the tile's side, or of half or a quarter if it fits in that."""
    image = decode_kept(content)
    side = tile
    while side % 2 == 0 and side // 2 >= max(image.size):
        side //= 2  # the contact sheet then repeats pixels, so that tiny photos are not blurred
    return fit_square(image, side, channels=1 if image.mode == "L" else 3)
