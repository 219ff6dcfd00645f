"""python -m benchmarks.backbones: the shipped backbones on one core, ONNX Runtime against torch.

Measures milliseconds for a photo, resizing and scaling included, of each backbone's outputs that
the service uses; photos one at a time, as ONNX Runtime gets them, and for torch in batches as well.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import interleaved, machine, report
from models.backbones.__main__ import read_photos
from models.imaging.pixels import Pixels
from models.inference.backbones import (
    BackboneName,
    Output,
    load_efficientnet,
    load_u2net,
    open_backbone,
    resolution_of,
    squeezed,
)
from models.networks.pixel_range import to_float

PHOTOS = Path(__file__).parents[1] / "tests" / "models" / "photos"
BATCH = 8
MEASURED: tuple[tuple[BackboneName, Output], ...] = (
    ("efficientnet-lite0", "features"),
    ("efficientnet-lite1", "features"),
    ("efficientnet-lite2", "features"),
    ("u2net-p", "features"),
    ("u2net-p", "masks"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=__doc__)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of JPEGs")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    photos = read_photos(options.photos)
    for name, output in MEASURED:
        began = time.perf_counter()
        backbone = open_backbone(name, output, torch.device("cpu"))
        opened = time.perf_counter() - began
        network = _network(name, output)
        sides: dict[str, Callable[[], object]] = {
            "ONNX Runtime": partial(backbone, photos),
            f"torch, batches of {BATCH}": partial(_by_torch, network, name, photos, BATCH),
            "torch": partial(_by_torch, network, name, photos, 1),
        }
        runs = {side: partial(_milliseconds, run, len(photos)) for side, run in sides.items()}
        report(f"{name}, {output}", "ms a photo", interleaved(runs, options.rounds))
        print(f"  opened in {opened:.1f} s\n")
    print(machine())


def _network(name: BackboneName, output: Output) -> Callable[[Tensor], Tensor]:
    network = load_u2net() if name == "u2net-p" else load_efficientnet(name)
    return network.features if output == "features" else network


def _by_torch(
    network: Callable[[Tensor], Tensor], name: BackboneName, photos: list[Pixels], batch: int
) -> Tensor:
    side = resolution_of(name)
    with torch.inference_mode():
        pixels = torch.cat([squeezed(photo, side) for photo in photos]).permute(0, 3, 1, 2)
        return torch.cat([network(to_float(part)) for part in pixels.split(batch)])


def _milliseconds(run: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) / count * 1000


if __name__ == "__main__":
    main()
