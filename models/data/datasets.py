"""Data sets in memory: the canonical zip that `models.data.canonical_archive` writes, as tensors.

Shapes: N images, C channels (1 grey, 3 sRGB), R resolution in pixels.
"""

import zipfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.canonical_archive import import_archive, map_ahead
from models.data.photos import decode_kept, fit_square
from models.data.report import DatasetReport
from models.data.upload_import import label_of

__all__ = [
    "Dataset",
    "DatasetReport",
    "count_images",
    "import_archive",
    "read_images",
]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All images of a data set at one resolution."""

    images: Tensor  # (N, C, R, R) uint8
    labels: Tensor  # (N,) int64, indices of `categories`
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if len(shape) != 4 or shape[0] < 1 or shape[1] not in (1, 3) or shape[2] != shape[3]:
            raise ValueError(f"images must be (N, 1 or 3, R, R) with N >= 1; got {shape}")
        if self.images.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise ValueError(
                f"dtypes must be uint8, int64; got {self.images.dtype}, {self.labels.dtype}"
            )
        if self.labels.shape != shape[:1]:
            raise ValueError(f"labels must be ({shape[0]},); got {tuple(self.labels.shape)}")
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if lowest < 0 or highest >= len(self.categories):
            raise ValueError(
                f"labels must be below {len(self.categories)}; got {lowest}..{highest}"
            )

    @classmethod
    def stack(
        cls, items: Iterable[tuple[int, NDArray[np.uint8]]], categories: Sequence[str], total: int
    ) -> "Dataset":
        """Build from exactly `total` pairs of label and pixels (R, R, C), each copied once."""
        labels = torch.empty(total, dtype=torch.int64)
        images: NDArray[np.uint8] | None = None  # numpy: small copies in torch use all cores
        count = 0
        for label, pixels in items:
            image = pixels.transpose(2, 0, 1)  # (C, R, R)
            if images is None:
                images = np.empty((total, *image.shape), dtype=np.uint8)
            if count == total or image.shape != images.shape[1:]:
                raise ValueError(f"image {count} of {total} does not fit: {image.shape}")
            images[count], labels[count] = image, label
            count += 1
        if images is None or count < total:
            raise ValueError(f"{total} images expected; got {count}")
        return cls(images=torch.from_numpy(images), labels=labels, categories=tuple(categories))

    def select(self, chosen: Tensor) -> "Dataset":
        """The photos at these indices, or where a mask holds."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def spaced(self, most: float) -> Tensor:
        """Indices of at most `most` photos, spaced evenly over the categories."""
        count = len(self.labels)
        chosen = int(min(count, most))
        places = torch.arange(chosen) * count // chosen
        return self.labels.argsort(stable=True)[places].sort().values


def read_images(
    source: IO[bytes], resolution: int, channels: int
) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
    """Category index and pixels (R, R, C) of each photo in a canonical zip, in its order."""

    def fit(item: tuple[int, bytes]) -> tuple[int, NDArray[np.uint8]]:
        label, content = item
        return label, fit_square(decode_kept(content), resolution, channels=channels)

    with zipfile.ZipFile(source) as archive:
        items = ((label_of(name), archive.read(name)) for name in archive.namelist())
        yield from map_ahead(fit, items)


def count_images(source: IO[bytes]) -> int:
    """How many photos a canonical zip holds."""
    with zipfile.ZipFile(source) as archive:
        return len(archive.namelist())
