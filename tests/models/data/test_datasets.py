"""Canonical zips to tensors and previews."""

import io

import numpy as np
import pytest
import torch

from models.data.archive import ArchiveLimits
from models.data.canonical_archive import import_archive
from models.data.datasets import Dataset, count_images, read_images
from models.data.photos import fit_square
from models.data.upload_import import preview
from tests.models.pictures import noise, saved, shop, zipped

LIMITS = ArchiveLimits(min_images=2)


def canonical(members: dict[str, bytes]) -> io.BytesIO:
    """The zip that an import of these files writes."""
    target = io.BytesIO()
    import_archive(zipped(members), target, LIMITS)
    return target


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_in_order_at_the_resolution(channels: int) -> None:
    items = list(read_images(canonical(shop(b=3, a=9)), 16, channels))
    assert [label for label, _ in items] == [0] * 9 + [1] * 3
    # `shop` numbers its pictures in the order of its arguments.
    expected = [fit_square(noise(n), 16, channels=channels) for n in (*range(3, 12), 0, 1, 2)]
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in items]), np.stack(expected))


def test_reading_may_stop_early() -> None:
    images = read_images(canonical(shop(a=20)), 16, 3)
    assert next(images)[0] == 0
    images.close()
    with pytest.raises(StopIteration):
        next(images)


def test_images_are_counted() -> None:
    assert count_images(canonical(shop(a=4, b=3))) == 7


def test_stack_lays_images_out_as_channels_first() -> None:
    images = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3)
    dataset = Dataset.stack(zip([1, 0, 1], images, strict=True), ["a", "b"], 3)
    assert dataset.categories == ("a", "b")
    torch.testing.assert_close(dataset.labels, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(dataset.images, torch.from_numpy(images).permute(0, 3, 1, 2))


@pytest.mark.parametrize(("count", "total"), [(2, 3), (3, 2), (0, 1)])
def test_stack_refuses_another_count_than_promised(count: int, total: int) -> None:
    image = np.zeros((4, 4, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match="does not fit|images expected"):
        Dataset.stack([(0, image)] * count, ["a"], total)


def test_stack_refuses_mixed_shapes() -> None:
    images = [np.zeros((side, side, 1), dtype=np.uint8) for side in (4, 1)]
    with pytest.raises(ValueError, match="image 1 of 2 does not fit"):
        Dataset.stack([(0, images[0]), (0, images[1])], ["a"], 2)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(2, 1, 4, 5, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            "N, 1 or 3",
        ),
        (
            torch.zeros(2, 2, 4, 4, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            "N, 1 or 3",
        ),
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "N >= 1"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), "dtypes"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "dtypes"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"\(2,\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "below 1; got 0..1"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([-1, 0]), "below 1; got -1..0"),
    ],
)
def test_a_data_set_checks_itself(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(images=images, labels=labels, categories=("only",))


@pytest.mark.parametrize(("most", "expected"), [(8, [2, 6]), (6.5, [2, 4]), (1000, [3, 9])])
def test_photos_are_drawn_evenly_from_the_categories(most: float, expected: list[int]) -> None:
    labels = torch.tensor([1, 0, 1, 1] * 3)
    images = torch.zeros(12, 1, 8, 8, dtype=torch.uint8)
    chosen = Dataset(images=images, labels=labels, categories=("few", "many")).spaced(most)
    assert labels[chosen].bincount().tolist() == expected
    assert chosen.tolist() == sorted({*chosen.tolist()})


def test_a_preview_shows_the_first_photos_of_each_category() -> None:
    sheet = preview(canonical(shop(a=5, b=2)), ("a", "b"), per_category=3, tile=32)
    assert sheet.shape[0] == 2 + 2 * (32 + 2)
    pictures = sheet[:, -(2 + 3 * (32 + 2)) :]
    np.testing.assert_array_equal(pictures[2:34, 2:34], fit_square(noise(0), 32, channels=3))
    np.testing.assert_array_equal(pictures[36:68, 36:68], fit_square(noise(6), 32, channels=3))
    assert (pictures[36:68, 70:102] == 255).all()  # b has two photos only


def test_a_preview_of_tiny_photos_repeats_their_pixels() -> None:
    members = {f"a/{n}.png": saved(noise(n, (28, 28), "L")) for n in range(2)}
    sheet = preview(canonical(members), ("a",), per_category=2, tile=64)
    first = sheet[4:68, -(4 + 2 * (64 + 4)) :][:, 4:68, 0]
    np.testing.assert_array_equal(first[4:60:2, 4:60:2], np.asarray(noise(0, (28, 28), "L")))


def test_a_preview_has_at_most_forty_rows() -> None:
    members = shop(**{f"c{n:02d}": 2 for n in range(42)})
    sheet = preview(canonical(members), [f"c{n}" for n in range(42)], per_category=1, tile=16)
    assert sheet.shape[0] == 2 + 40 * (16 + 2)
