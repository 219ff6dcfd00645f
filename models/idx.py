"""python -m models.idx: convert IDX files (MNIST, Fashion-MNIST) to a zip for upload.

    python -m models.idx --images train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz \\
        --categories fashion-mnist --output fashion-mnist.zip
"""

import argparse
import gzip
import struct
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.imaging.encoding import encode

FASHION_MNIST = (
    "T-shirt",  # published as "T-shirt/top", which cannot name a folder
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTES = 0x08  # the element type in the magic number's third byte
PROGRESS_IMAGES = 10_000


class IdxError(ValueError):
    """Not a complete IDX file of unsigned bytes."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """(N, H, W) uint8 with labels (N,) uint8 below the number of categories."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or self.labels.shape != self.images.shape[:1]:
            raise IdxError(f"{self.images.shape} images do not fit {self.labels.shape} labels")
        if self.labels.size and int(self.labels.max()) >= len(self.categories):
            raise IdxError(f"label {self.labels.max()} has no name in {self.categories}")


def read_idx(data: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, gzipped or plain.

    Raises:
        IdxError: the data is no such file, or is incomplete.
    """
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise IdxError("damaged gzip file") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTES:
        raise IdxError(f"not an IDX file of unsigned bytes: begins with {data[:4]!r}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise IdxError("the header is incomplete")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    elements = np.frombuffer(data, np.uint8, offset=start)
    if elements.size != np.prod(shape, dtype=object):
        raise IdxError(f"{shape} elements promised, {elements.size} found")
    return elements.reshape(shape)


def write_zip(dataset: LabelledImages, target: IO[bytes]) -> None:
    """Write a zip with one folder of PNG files per category; prints progress to stdout."""
    with zipfile.ZipFile(target, "w") as archive:
        for index, (pixels, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
            name = zipfile.ZipInfo(f"{dataset.categories[label]}/{index:05d}.png")
            archive.writestr(name, encode(pixels[:, :, np.newaxis], "png"))
            if (index + 1) % PROGRESS_IMAGES == 0:
                sys.stdout.write(f"{index + 1:,} of {len(dataset.images):,} images\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert a pair of IDX files."""
    parser = argparse.ArgumentParser(prog="python -m models.idx", description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--categories", required=True, help="fashion-mnist, or name,name,...")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    known = options.categories == "fashion-mnist"
    dataset = LabelledImages(
        images=read_idx(options.images.read_bytes()),
        labels=read_idx(options.labels.read_bytes()),
        categories=FASHION_MNIST if known else tuple(options.categories.split(",")),
    )
    with options.output.open("wb") as target:
        write_zip(dataset, target)


if __name__ == "__main__":
    main()
