"""Memorisation: copies are flagged, new images are not, and the sheet shows the nearest photos."""

import io

import numpy as np
import torch
from PIL import Image

from models.evaluation.memorisation import ROWS, memorisation, neighbour_sheet
from models.imaging.contact_sheet import contact_sheet


def normal(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def test_new_images_are_not_flagged() -> None:
    found = memorisation(normal(400, 0), normal(100, 1), normal(100, 2))
    assert not found.flagged
    assert abs(found.authenticity - found.authenticity_held_out) < 0.2
    assert 0.8 < found.nearest_distance / found.nearest_distance_held_out < 1.25


def test_noisy_copies_are_flagged() -> None:
    train = normal(400, 0)
    found = memorisation(train, normal(100, 1), train[:100] + 0.01 * normal(100, 2))
    assert found.flagged
    assert found.authenticity == 0
    assert found.nearest_distance < 0.1 * found.nearest_distance_held_out


def grey(values: torch.Tensor) -> torch.Tensor:
    """4 px images of one brightness each."""
    return values.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).clone()


def test_the_sheet_begins_with_the_closest_image_and_its_nearest_photos() -> None:
    photo_values = torch.arange(0, 200, 10)
    image_values = torch.tensor([*range(5, 165, 10), 171])  # the last is closest, to 170
    sheet = neighbour_sheet(
        grey(photo_values),
        photo_values[:, None].float(),
        grey(image_values),
        image_values[:, None].float(),
    )
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    row = [np.full((4, 4, 1), value, np.uint8) for value in (171, 170, 180, 160, 190)]
    names = [f"closest {number}" for number in range(1, ROWS + 1)]
    alone = contact_sheet([row] + [[row[0]]] * (ROWS - 1), names, tile=64)
    above = pixels.shape[0] - contact_sheet([row] * 17, names + ["other"] * 7, tile=64).shape[0]
    np.testing.assert_array_equal(pixels[above : above + 64, : alone.shape[1]], alone[:64])


def test_the_sheet_says_which_images_are_generated() -> None:
    values = torch.arange(0, 250, 10)
    sheet = neighbour_sheet(
        grey(values), values[:, None].float(), grey(values), values[:, None].float()
    )
    row = [np.full((4, 4, 1), 0, np.uint8)] * 5
    headings = [(0, "generated"), (1, "nearest photos")]
    named = contact_sheet([row] * 20, ["closest 10"] * 20, tile=64, headings=headings)
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    assert pixels.shape == named.shape
    np.testing.assert_array_equal(pixels[:24], named[:24])


def test_the_other_rows_of_a_sheet_come_from_all_parts_of_the_images() -> None:
    closest, others = [0.0] * ROWS, [20.0 * number for number in range(1, ROWS + 1)]
    images = torch.tensor([*closest, *(value for value in others for _ in range(7))])
    sheet = neighbour_sheet(
        grey(images), images[:, None], grey(images), images[:, None] + (images > 0)[:, None]
    )
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    shown = pixels[:, -100, 0].tolist()  # down through the nearest photos
    assert [value for value in others if int(value) in shown] == others


def test_a_sheet_of_few_images_shows_them_all() -> None:
    values = torch.tensor([10.0, 20.0])
    features = values[:, None]
    sheet = neighbour_sheet(grey(values), features, grey(values), features + 1)
    assert Image.open(io.BytesIO(sheet)).height < 200
