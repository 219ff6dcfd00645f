"""Studio photos, by pixels that are known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from models.cutouts.studio import Color, studio_photo
from models.imaging.pixels import Pixels, to_pixels

RED, GREEN = (200, 20, 30), (20, 180, 40)


def photo(
    size: tuple[int, int], box: tuple[int, int, int, int], blur: float = 0
) -> tuple[Image.Image, Pixels]:
    """A red box on green, and its mask."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask = mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask
    image = Image.composite(Image.new("RGB", size, RED), Image.new("RGB", size, GREEN), mask)
    return image, to_pixels(mask)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((400, 300), (10, 20, 210, 120)),
        ((300, 400), (190, 200, 290, 250)),
        ((40, 30), (5, 5, 25, 15)),  # smaller than the result
        ((200, 100), (0, 0, 200, 100)),  # the whole photo
    ],
)
def test_the_product_is_centred_and_fills_88_percent_undistorted(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    studio = studio_photo(*photo(size, box), 100, channels=3)
    red = studio[:, :, 1] < 128
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [6, 94], atol=1)
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [28, 72], atol=1)
    assert (studio[:4] == 255).all()
    assert (studio[50, 50] == RED).all()


def test_the_edge_shows_nothing_of_the_old_background() -> None:
    image, mask = photo((200, 200), (50, 50, 150, 150), blur=3)
    studio = studio_photo(image, mask, 128, channels=3).astype(int)
    # Between red and white, no pixel is greener than it is blue by more than rounding.
    assert (studio[:, :, 1] - studio[:, :, 2]).max() <= 8
    plain = np.asarray(image)[40:160, 40:160].astype(int)
    assert (plain[:, :, 1] - plain[:, :, 2]).max() > 100


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (240, 230, 10)])
def test_the_background_is_exact(background: Color) -> None:
    studio = studio_photo(
        *photo((200, 200), (50, 50, 150, 150)), 64, channels=3, background=background
    )
    assert (studio[:3] == background).all()
    assert (studio[:, -3:] == background).all()


def test_grey_photos_stay_grey() -> None:
    image, mask = photo((200, 200), (50, 50, 150, 150))
    studio = studio_photo(image.convert("L"), mask, 64, channels=1, background=(255, 0, 0))
    assert studio.shape == (64, 64, 1)
    assert studio[0, 0, 0] == 76  # red's luma
    assert studio[32, 32, 0] == image.convert("L").getpixel((100, 100))


def test_an_empty_mask_is_refused() -> None:
    image, mask = photo((200, 200), (50, 50, 150, 150))
    with pytest.raises(ValueError, match="mask is empty"):
        studio_photo(image, mask * 0, 64, channels=3)
