"""The held-out part of a data set."""

import torch

from models.data.datasets import Dataset
from models.data.split import REPORTED, held_out_photos, split


def pixels_of(dataset: Dataset) -> set[bytes]:
    return {image.numpy().tobytes() for image in dataset.images}


def random_dataset(*sizes: int) -> Dataset:
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 1, 4, 4), generator=random, dtype=torch.uint8)
    names = tuple(str(label) for label in range(len(sizes)))
    return Dataset(images=images, labels=labels, categories=names)


def held_out_of(dataset: Dataset) -> Dataset:
    _, held_out = split(dataset)
    assert held_out is not None
    return held_out


def test_a_tenth_of_every_category_is_held_out_and_nothing_is_lost() -> None:
    dataset = random_dataset(100, 30, 12)
    training, held_out = split(dataset)
    assert held_out is not None
    assert torch.bincount(held_out.labels).tolist() == [10, 3, 1]
    assert pixels_of(training) | pixels_of(held_out) == pixels_of(dataset)
    assert not pixels_of(training) & pixels_of(held_out)


def test_the_photos_alone_decide_not_their_order() -> None:
    dataset = random_dataset(100, 30)
    backward = Dataset(
        images=dataset.images.flip(0), labels=dataset.labels.flip(0), categories=("0", "1")
    )
    assert pixels_of(held_out_of(dataset)) == pixels_of(held_out_of(backward))


def test_added_photos_move_few_of_the_others() -> None:
    dataset = random_dataset(220)
    fewer = Dataset(images=dataset.images[:200], labels=dataset.labels[:200], categories=("0",))
    before, after = held_out_of(fewer), held_out_of(dataset)
    assert len(pixels_of(before) & pixels_of(after)) >= 17  # of 20


def test_a_category_too_small_to_spare_a_photo_holds_nothing_out() -> None:
    dataset = random_dataset(100, 4)
    training, held_out = split(dataset)
    assert held_out is None
    assert training is dataset


def test_a_large_data_set_holds_out_no_more_than_is_judged() -> None:
    held_out = held_out_of(random_dataset(80_000, 40_000))
    assert len(held_out.labels) == REPORTED.most
    assert torch.bincount(held_out.labels).tolist() == [6667, 3333]


def test_which_photos_are_held_out_is_told_in_their_order() -> None:
    dataset = random_dataset(100, 30)
    chosen = held_out_photos(dataset)
    _, held_out = split(dataset)
    assert held_out is not None
    assert torch.equal(dataset.images[chosen], held_out.images)
    assert not held_out_photos(random_dataset(3, 3)).any()
