"""Contact sheets: rows of images in one picture, each row next to its label.

Shapes: R side of a square image, H height, W width, C image channels (1 grey, 3 sRGB); pixels are
uint8 [0, 255].
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from models.imaging.pixels import Pixels, to_image, to_pixels

PAPER, INK = (255, 255, 255), (64, 64, 64)  # a contact sheet's background and its text
MAX_LABEL_TILES = 3  # a longer label is cut, with an ellipsis
FONT_SIZES = (11, 28)  # smallest and largest, in pixels
LINE_HEIGHT = 1.3  # of a heading, in font sizes
FONT = Path(__file__).parent / "fonts" / "labels.woff2"  # its README.md lists the scripts
JOINERS = "\u200c\u200d"  # invisible; they shape Persian and Indian words


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    labels: Sequence[str] | None,
    *,
    tile: int,
    headings: Sequence[tuple[int, str]] = (),
) -> Pixels:
    """Rows of (R, R, C) images as one (H, W, 3) picture, with labels on the left if given.

    Tiles are `tile` pixels square, whatever the images' own resolution. A heading stands above the
    first of its columns, in the order of columns.
    """
    if not any(rows):
        raise ValueError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    gap = max(2, tile // 16)
    font = label_font(min(max(tile // 4, FONT_SIZES[0]), FONT_SIZES[1]))
    texts = [_ellipsise(label, font, MAX_LABEL_TILES * tile) for label in labels or ()]
    # The label column, with a margin of two gaps on either side of the text.
    indent = max((round(font.getlength(text)) + 3 * gap for text in texts), default=0)
    columns = max(len(row) for row in rows)
    width, height = (2 * gap + n * (tile + gap) - gap for n in (columns, len(rows)))
    small = label_font(max(tile // 5, FONT_SIZES[0]))  # "generated" fits above one tile
    above = round(LINE_HEIGHT * small.size) + gap if headings else 0
    sheet = Image.new("RGB", (indent + width, above + height), PAPER)
    draw = ImageDraw.Draw(sheet)
    ends = [*(column for column, _ in headings[1:]), columns]
    for (column, heading), end in zip(headings, ends, strict=True) if headings else ():
        text = _ellipsise(heading, small, (end - column) * (tile + gap) - gap)
        place = (indent + gap + column * (tile + gap), (above + gap) / 2)
        draw.text(place, text, fill=INK, font=small, anchor="lm")
    for y, row in enumerate(rows):
        top = above + gap + y * (tile + gap)
        if texts:
            place = (indent - gap, top + tile / 2)
            draw.text(place, texts[y], fill=INK, font=font, anchor="rm")
        for x, pixels in enumerate(row):
            sheet.paste(_tile(pixels, tile), (indent + gap + x * (tile + gap), top))
    return to_pixels(sheet)


def label_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of labels, for the scripts that shops write; `size` in pixels."""
    return ImageFont.truetype(FONT, size)


def _tile(pixels: Pixels, side: int) -> Image.Image:
    """The image scaled to `side`: pixels are repeated if it is a multiple, else Lanczos."""
    image = to_image(pixels)
    whole = side % image.width == 0 and side % image.height == 0
    return image.resize(
        (side, side), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    )


def _ellipsise(label: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`label` on one line, cut to `width` pixels; what the font cannot draw becomes a box."""
    text = "".join(c if c.isprintable() or c in JOINERS else " " for c in label[:200]).strip()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"
