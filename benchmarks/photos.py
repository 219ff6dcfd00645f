"""The photos that quality and searches are measured on, as options of a command."""

import argparse
from pathlib import Path

from models.datasets import Dataset
from models.pretrain import load
from models.split import split


def photo_parser(description: str | None, preset: str) -> argparse.ArgumentParser:
    """A parser that knows which photos, at which resolution, and which of our presets."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--archive", type=Path, required=True, help="zip of training photos")
    parser.add_argument("--resolution", type=int, choices=(28, 32, 64, 128), default=32)
    parser.add_argument("--preset", choices=("fast", "balanced", "best"), default=preset)
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    return parser


def split_photos(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """Those to train on, and those held out to judge by."""
    training, held_out = split(load(options.archive, options.resolution)[0])
    if held_out is None:
        raise SystemExit("the archive has too few photos to hold any out")
    return training, held_out
