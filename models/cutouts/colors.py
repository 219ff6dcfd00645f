"""Product colour: the median colour inside a mask, and its basic colour term.

The names are the eleven terms of "Basic Color Terms" - Berlin and Kay, 1969, with the shops' beige
and navy. The bounds are ours, for cloth in photos, which is duller than colours on a screen.

Shapes: H height, W width, C channels (1 grey, 3 sRGB).
"""

import math

import numpy as np

from models.imaging.lab import to_lab
from models.imaging.pixels import Pixels

CERTAIN = 250  # of a mask, from which on nothing of the background shows through
Lab = tuple[float, float, float]
NEUTRAL = 7  # chroma, up to which a colour is black, grey or white
TINTED = 10  # the same for light colours: light indoors is seldom neutral
BLACK, WHITE = 24, 66  # lightness: black up to here, white from there on
FIRST_HUE = -15  # degrees, where the hues of pink begin
# Up to which hue, in degrees, and the names there: the first whose lightness and chroma a colour
# has at least. Red is at 40 degrees, yellow at 100, green at 140, blue at 280.
HUES: tuple[tuple[int, tuple[tuple[int, int, str], ...]], ...] = (
    (15, ((35, 0, "pink"), (0, 25, "red"), (0, 0, "purple"))),
    (48, ((0, 45, "red"), (60, 20, "pink"), (60, 0, "beige"), (0, 28, "red"), (0, 0, "brown"))),
    (75, ((45, 45, "orange"), (60, 0, "beige"), (0, 0, "brown"))),
    (92, ((50, 40, "yellow"), (52, 0, "beige"), (0, 0, "brown"))),
    (112, ((50, 38, "yellow"), (60, 0, "beige"), (0, 0, "green"))),
    (215, ((0, 0, "green"),)),
    (303, ((30, 0, "blue"), (0, 35, "blue"), (0, 0, "navy"))),
    (328, ((0, 0, "purple"),)),
    (345, ((60, 25, "pink"), (0, 0, "purple"))),
)
NAMES = ("black", "grey", "white", *dict.fromkeys(row[2] for _, rows in HUES for row in rows))


def product_color(pixels: Pixels, mask: Pixels) -> Lab:
    """Median Lab colour of a photo's (H, W, C) product; `mask` is (H, W, 1).

    Raises:
        ValueError: the mask is empty.
    """
    # The opaque part; of a product so thin that it has none, the most opaque pixels.
    inside = mask[:, :, 0] >= min(CERTAIN, int(mask.max()))
    if not mask.any():
        raise ValueError("the mask is empty: there is no product to look at")
    colors = to_lab(np.repeat(pixels[inside], 3 // pixels.shape[2], axis=-1))
    lightness, a, b = np.median(colors, axis=0)
    return round(float(lightness), 1), round(float(a), 1), round(float(b), 1)


def color_name(lab: Lab) -> str:
    """The colour's name, one of `NAMES`."""
    lightness, a, b = lab
    chroma = math.hypot(a, b)
    if chroma < (TINTED if lightness >= WHITE else NEUTRAL):
        return "black" if lightness < BLACK else "grey" if lightness < WHITE else "white"
    hue = (math.degrees(math.atan2(b, a)) - FIRST_HUE) % 360 + FIRST_HUE
    rows = next(rows for end, rows in HUES if hue <= end)
    return next(name for least, dull, name in rows if lightness >= least and chroma >= dull)
