"""python -m benchmarks.cutouts.looks --archive PHOTOS.zip: doubt against a person's verdicts.

`verdicts.json` has photos of the archive, drawn at random and looked at one by one, each with its
mask and its studio photo, before their doubt was computed: `good`, `usable` (a hanger, a ragged
hem) or `bad` (another product, or a part of one). Prints how many of each kind are doubtful;
`--sheet` writes the photos, masks and studio photos of one verdict as a PNG.
"""

import argparse
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from models.cutouts.doubt import measure_trust
from models.cutouts.segmentation import segment
from models.cutouts.studio import studio_photo
from models.data.photos import decode, fit_square
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode
from models.imaging.pixels import Pixels, to_image

VERDICTS = Path(__file__).with_name("verdicts.json")
KINDS = ("good", "usable", "bad")
TILE = 200  # px
COLUMNS = 4  # photos in a row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cutouts.looks", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="PNG to write")
    parser.add_argument("--verdict", choices=KINDS, default="bad", help="what the sheet shows")
    options = parser.parse_args(arguments)
    shown: list[Pixels] = []
    for name, verdicts in json.loads(VERDICTS.read_text()).items():
        doubtful = dict.fromkeys(KINDS, 0)
        with zipfile.ZipFile(options.archive) as archive:
            for photo, verdict in verdicts.items():
                image = decode(archive.read(photo))
                found = segment(image)
                reasons = measure_trust(found).doubts
                doubtful[verdict] += bool(reasons)
                if verdict == options.verdict:
                    print(f"  {photo}: {'; '.join(reasons) or 'trusted'}")
                    shown += [
                        fit_square(image, TILE, channels=3),
                        fit_square(to_image(found.mask), TILE, channels=3),
                        studio_photo(image, found.mask, TILE, channels=3),
                    ]
        _print(name, list(verdicts.values()), doubtful)
    if options.sheet:
        wide = 3 * COLUMNS
        rows = [shown[start : start + wide] for start in range(0, len(shown), wide)]
        options.sheet.write_bytes(encode(contact_sheet(rows, None, tile=TILE), "png"))


def _print(name: str, verdicts: Sequence[str], doubtful: dict[str, int]) -> None:
    told = ", ".join(f"{kind} {verdicts.count(kind)} ({doubtful[kind]} doubtful)" for kind in KINDS)
    print(f"{name}: {len(verdicts)} photos: {told}")


if __name__ == "__main__":
    main()
