"""IDX files to arrays and to zips."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data.archive import ArchiveLimits
from models.data.canonical_archive import import_archive
from models.data.datasets import Dataset, read_images
from models.idx import FASHION_MNIST, IdxError, LabelledImages, main, read_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = (np.arange(20) % 10).astype(np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    """The array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("array", [IMAGES, LABELS])
def test_idx_is_read_plain_and_gzipped(array: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(read_idx(idx(array)), array)
    np.testing.assert_array_equal(read_idx(gzip.compress(idx(array))), array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        b"PK\x03\x04" + bytes(100),
        b"\0\0\x0d\x01" + struct.pack(">If", 1, 1.0),  # floats
        b"\0\0\x08\x03\0\0\0\x01",
        idx(IMAGES)[:-1],
        idx(IMAGES) + b"\0",
        b"\0\0\x08\x03" + b"\xff" * 12,
        gzip.compress(idx(IMAGES))[:-20],
        b"\x1f\x8b nonsense",
    ],
)
def test_what_is_no_complete_idx_file_is_refused(data: bytes) -> None:
    with pytest.raises(IdxError):
        read_idx(data)


def test_images_and_labels_must_fit() -> None:
    with pytest.raises(IdxError, match="do not fit"):
        LabelledImages(images=IMAGES, labels=LABELS[1:], categories=FASHION_MNIST)
    with pytest.raises(IdxError, match="label 9 has no name"):
        LabelledImages(images=IMAGES, labels=LABELS, categories=("a", "b"))


@pytest.mark.parametrize("categories", ["fashion-mnist", "a,b,c,d,e,f,g,h,i,j"])
def test_the_command_writes_an_upload_with_the_same_pixels(tmp_path: Path, categories: str) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (tmp_path / "labels").write_bytes(idx(LABELS))
    paths = [f"--images={tmp_path}/images.gz", f"--labels={tmp_path}/labels"]
    main([*paths, f"--categories={categories}", f"--output={tmp_path}/upload.zip"])
    names = FASHION_MNIST if categories == "fashion-mnist" else tuple("abcdefghij")

    upload, target = tmp_path / "upload.zip", tmp_path / "canonical.zip"
    with upload.open("rb") as source, target.open("w+b") as file:
        report = import_archive(source, file, ArchiveLimits())
        kept = tuple(category.name for category in report.categories)
        dataset = Dataset.stack(read_images(file, 32, 1), kept, 20)

    assert kept == tuple(sorted(names))
    assert report.grey
    for image, label in zip(IMAGES, LABELS, strict=True):
        same = dataset.labels == kept.index(names[label])
        found = dataset.images[same][:, 0, 2:30, 2:30].numpy()
        assert (found == image).all(axis=(1, 2)).any()
