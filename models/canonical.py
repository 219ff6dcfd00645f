"""From an uploaded zip to what is kept of it: the canonical zip, a report, and a picture.

Nothing here needs torch, so that a process that only decodes uploads starts in a third of a second.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.archive import ArchiveLimits
from models.images import contact_sheet, encode
from models.ingest import import_archive
from models.photos import decode, fit_square
from models.report import DatasetReport

SHEET_ROWS = 40  # categories in a preview


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What is known of an upload whose canonical zip is written."""

    report: DatasetReport
    preview_png: bytes


def import_photos(source: IO[bytes], target: IO[bytes], limits: ArchiveLimits) -> Imported:
    """`import_archive` and the preview; `target` is at its beginning afterwards.

    Raises:
        DatasetError: what is wrong with the upload, and what to do.
    """
    report = import_archive(source, target, limits)
    target.seek(0)
    sheet = preview(target, [category.name for category in report.categories])
    target.seek(0)
    return Imported(report=report, preview_png=encode(sheet, "png"))


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
    image = decode(content)
    side = tile
    while side % 2 == 0 and side // 2 >= max(image.size):
        side //= 2  # the contact sheet then doubles each pixel, which keeps tiny photos honest
    return fit_square(image, side, channels=1 if image.mode == "L" else 3)
