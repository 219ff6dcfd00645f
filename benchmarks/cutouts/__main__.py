"""python -m benchmarks.cutouts --archive PHOTOS.zip: masks against 200 composites' known ones.

Prints the intersection over union by kind of background and by resolution of the network, and the
seconds for a photo on one core; `--worst` writes a sheet of the worst composites.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cutouts.composites import KINDS, Composite, clean_photos, composites, iou
from benchmarks.measure import machine
from models.cutouts.masks import OUTLINE, clean_mask
from models.imaging.contact_sheet import contact_sheet
from models.imaging.encoding import encode
from models.inference.backbones import open_backbone

RESOLUTIONS = (160, 224, 320)
SHOWN = 24  # of the worst composites


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cutouts", description=__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--photos", type=int, default=120, help="clean photos to cut out")
    parser.add_argument("--worst", type=Path, help="PNG to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    photos = list(clean_photos(options.archive, options.photos, seed=0))
    made = list(composites(photos, options.count, seed=0))
    print(f"{len(made)} composites of {len(photos)} clean photos and drawn garments; IoU:")
    for resolution in RESOLUTIONS:
        found, seconds = _measured(made, resolution)
        _print(made, found, resolution, seconds)
    if options.worst:
        options.worst.write_bytes(_sheet(made, found))
    print(machine())


def _measured(made: Sequence[Composite], resolution: int) -> tuple[list[float], float]:
    """IoU of each composite, and seconds a photo; the network is opened before."""
    network = open_backbone("u2net-p", "masks", torch.device("cpu"), resolution)
    began = time.process_time()
    masks = [_mask(network([each.pixels])[0, 0].numpy(), each) for each in made]
    seconds = (time.process_time() - began) / len(made)
    return [
        iou(m, each.mask[..., 0] >= OUTLINE) for m, each in zip(masks, made, strict=True)
    ], seconds


def _mask(seen: NDArray[np.float32], composite: Composite) -> NDArray[np.bool_]:
    height, width, _ = composite.pixels.shape
    inside: NDArray[np.bool_] = clean_mask(seen, (width, height)).mask[..., 0] >= OUTLINE
    return inside


def _print(made: Sequence[Composite], found: list[float], resolution: int, seconds: float) -> None:
    groups: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for each, value in zip(made, found, strict=True):
        groups[each.kind].append(value)
    print(f"\n{resolution} px, {seconds:.3f} s of one core a photo")
    for name, values in {"all": found, **groups}.items():
        low = sum(value < 0.9 for value in values)
        print(
            f"  {name:<14} median {median(values):.3f}  worst {min(values):.3f}"
            f"  below 0.9: {low} of {len(values)}"
        )


def _sheet(made: Sequence[Composite], found: list[float]) -> bytes:
    """The worst composites, each with its known mask and the one found at the full resolution."""
    network = open_backbone("u2net-p", "masks", torch.device("cpu"), RESOLUTIONS[-1])
    rows = []
    for index in np.argsort(found)[:SHOWN]:
        each = made[index]
        mask = 255 * _mask(network([each.pixels])[0, 0].numpy(), each)[..., None].astype(np.uint8)
        rows += [each.pixels, np.repeat(each.mask, 3, 2), np.repeat(mask, 3, 2)]
    wide = [rows[start : start + 12] for start in range(0, len(rows), 12)]
    return encode(contact_sheet(wide, None, tile=160), "png")


if __name__ == "__main__":
    main()
