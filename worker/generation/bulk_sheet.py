"""Contact sheet of bulk generation: the first images of each category."""

import io

from PIL import Image

from models.checkpoint import Model
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode
from models.imaging.pixels import Pixels, to_pixels
from worker.generation.sampling import BulkRequest

COLUMNS = 8  # of the contact sheet
MOST_ROWS = 50
TILE = (64, 128)  # smallest and largest side of an image in the sheet, px


class Sheet:
    """Contact sheet of the first images of each category, filled as images are stored."""

    def __init__(self, model: Model, bulk: BulkRequest) -> None:
        self._categories = model.categories
        wanted = bulk.rendering.side or model.generator.config.resolution
        self._tile = min(max(wanted, TILE[0]), TILE[1])
        self._rows: dict[int, list[Pixels]] = {}

    def add(self, label: int, content: bytes) -> None:
        """Add an image; ignored when its row, or the number of rows, is full."""
        if label not in self._rows and len(self._rows) == MOST_ROWS:
            return
        row = self._rows.setdefault(label, [])
        if len(row) < COLUMNS:
            row.append(to_pixels(Image.open(io.BytesIO(content))))

    def encoded(self) -> bytes:
        """The sheet as PNG, a labelled row for each category."""
        shown = sorted(self._rows)
        rows = [self._rows[label] for label in shown]
        names = [self._categories[label] for label in shown]
        return encode(contact_sheet(rows, names, tile=self._tile), "png")
