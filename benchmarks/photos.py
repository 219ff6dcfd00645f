"""Command-line options for the photos and the preset of quality and search benchmarks."""

import argparse
from pathlib import Path

from models.data.datasets import Dataset
from models.data.split import split
from models.pretrain import load


def photo_parser(description: str | None, preset: str) -> argparse.ArgumentParser:
    """An argument parser with options for the photos, their resolution and the preset."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--archive", type=Path, required=True, help="zip of training photos")
    parser.add_argument("--resolution", type=int, choices=(28, 32, 64, 128), default=32)
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default=preset)
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    return parser


def split_photos(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """The training part and the held-out part of the photos."""
    training, held_out = split(load(options.archive, options.resolution)[0])
    if held_out is None:
        raise SystemExit("the archive has too few photos to hold any out")
    return training, held_out
