"""Studio data set: the photos of a canonical zip as studio photos, by masks that are made already.

Shapes: C channels (1 grey, 3 sRGB), R resolution in pixels.
"""

import zipfile
from collections.abc import Generator, Iterator, Sequence
from typing import IO

from models.cutouts.attributes import PhotoAttributes
from models.cutouts.segmentation import decode_mask
from models.cutouts.studio import WHITE, Color, studio_photo
from models.data.canonical_archive import map_ahead
from models.data.photos import decode_kept, fit_square
from models.data.upload_import import SHEET_ROWS, label_of
from models.imaging.contact_sheet import contact_sheet
from models.imaging.pixels import Pixels, to_image

SHEET_PHOTOS = 4  # of each category
SHEET_TILE = 96  # px

Photo = tuple[str, bytes, bytes | None]  # name, photo and mask, None where it is doubtful


def read_studio_images(
    source: IO[bytes],
    masks: IO[bytes],
    attributes: Sequence[PhotoAttributes],
    resolution: int,
    *,
    channels: int,
    background: Color = WHITE,
) -> Generator[tuple[int, Pixels], None, None]:
    """Category index and pixels (R, R, C) of each photo; as it is where its mask is doubtful."""

    def fit(photo: Photo) -> tuple[int, Pixels]:
        name, content, mask = photo
        image = decode_kept(content)
        if mask is None:
            return label_of(name), fit_square(image, resolution, channels=channels)
        cut_out = decode_mask(mask)
        return label_of(name), studio_photo(
            image, cut_out, resolution, channels=channels, background=background
        )

    with zipfile.ZipFile(source) as photos, zipfile.ZipFile(masks) as archive:
        yield from map_ahead(fit, _photos(photos, archive, attributes))


def cutout_sheet(
    source: IO[bytes], masks: IO[bytes], attributes: Sequence[PhotoAttributes]
) -> Pixels:
    """A contact sheet: the first photos of each category, each with its mask and the result."""
    shown: dict[str, list[Pixels]] = {}
    with zipfile.ZipFile(source) as photos, zipfile.ZipFile(masks) as archive:
        for each in attributes:
            row = shown.setdefault(each.category, [])
            if len(row) < 3 * SHEET_PHOTOS and len(shown) <= SHEET_ROWS:
                row += _shown(photos.read(each.file), archive.read(each.file), bool(each.doubts))
    rows = {name: row for name, row in shown.items() if row}
    return contact_sheet(list(rows.values()), list(rows), tile=SHEET_TILE)


def _photos(
    photos: zipfile.ZipFile, masks: zipfile.ZipFile, attributes: Sequence[PhotoAttributes]
) -> Iterator[Photo]:
    doubtful = {each.file for each in attributes if each.doubts}
    for name in photos.namelist():
        yield name, photos.read(name), None if name in doubtful else masks.read(name)


def _shown(content: bytes, mask: bytes, doubtful: bool) -> list[Pixels]:
    """The photo, its mask and the result, each a tile."""
    image, cut_out = decode_kept(content), decode_mask(mask)
    photo = fit_square(image, SHEET_TILE, channels=3)
    seen = fit_square(to_image(cut_out), SHEET_TILE, channels=3)
    if doubtful:
        return [photo, seen, photo]
    return [photo, seen, studio_photo(image, cut_out, SHEET_TILE, channels=3)]
