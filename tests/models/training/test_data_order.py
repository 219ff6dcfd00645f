"""The order in which a training shows its images."""

import torch

from models.data.datasets import Dataset
from models.training.data_order import DataOrder, seeded

CPU = torch.device("cpu")


def numbered(labels: torch.Tensor) -> Dataset:
    """Images whose pixels tell their position."""
    count = len(labels)
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    images = pixels.expand(count, 1, 28, 28).clone()
    return Dataset(images=images, labels=labels, categories=("left", "right"))


def shown(order: DataOrder, start: int, size: int) -> torch.Tensor:
    """Positions of the images in a batch."""
    images, _ = order.batch(start, size, seeded(0, start))
    return (images[:, 0, 0, 0] * 127.5 + 127.5).round().long()


def test_an_epoch_shows_every_image_once() -> None:
    order = DataOrder(
        numbered(torch.arange(48) % 2), flip=False, balanced=False, seed=0, device=CPU
    )
    first, second = shown(order, 0, 48), shown(order, 48, 48)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(48))
    assert not torch.equal(first, second)


def test_what_is_shown_depends_on_the_place_alone() -> None:
    dataset = numbered(torch.arange(48) % 2)
    order = DataOrder(dataset, flip=False, balanced=True, seed=4, device=CPU)
    straight = torch.cat([shown(order, start, 16) for start in range(0, 144, 16)])
    later = DataOrder(dataset, flip=False, balanced=True, seed=4, device=CPU)
    torch.testing.assert_close(shown(later, 80, 40), straight[80:120])


def test_balanced_epochs_show_a_rare_category_as_often_as_a_common_one() -> None:
    labels = torch.tensor([0] * 40 + [1] * 7)
    order = DataOrder(numbered(labels), flip=False, balanced=True, seed=0, device=CPU)
    epoch = shown(order, 0, 80)
    assert sorted(epoch[epoch < 40].tolist()) == list(range(40))
    rare = torch.bincount(epoch[epoch >= 40] - 40)
    assert rare.sum() == 40
    assert rare.max() - rare.min() <= 1


def test_a_category_without_images_is_left_out() -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    order = DataOrder(numbered(labels), flip=False, balanced=True, seed=0, device=CPU)
    assert sorted(shown(order, 0, 10).tolist()) == list(range(10))


def test_flips_mirror_about_half_of_the_images(squares: Dataset) -> None:
    def brighter_left(flip: bool) -> int:
        order = DataOrder(squares, flip=flip, balanced=False, seed=0, device=CPU)
        images, labels = order.batch(0, 48, seeded(0, 0))
        left = images[..., :14].mean((1, 2, 3)) > images[..., 14:].mean((1, 2, 3))
        return int((left == (labels == 0)).sum())

    assert brighter_left(flip=False) == 48
    assert 12 < brighter_left(flip=True) < 36
