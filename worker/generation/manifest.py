"""Manifest of bulk generation: a line for each image, and how many were made and rejected."""

import json
from dataclasses import asdict, dataclass

from models.classification.tried_seeds import TRIES


@dataclass(frozen=True, kw_only=True)
class Made:
    """One image, as a line of the manifest."""

    file: str
    seed: int
    category: str
    sha256: str
    width: int
    height: int
    rejected_seeds: list[int] | None = None  # tried before `seed`; with a filter alone

    def line(self) -> str:
        """As a line of the manifest."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(told) + "\n"


@dataclass(kw_only=True)
class Tally:
    """What a job has made so far."""

    images: int = 0
    left_out: int = 0  # images that no seed has made well enough
    rejected_seeds: int = 0

    def add(self, made: Made | None) -> None:
        """Count an image, or one that is left out."""
        if made is None:
            self.left_out += 1
            self.rejected_seeds += TRIES
        else:
            self.images += 1
            self.rejected_seeds += len(made.rejected_seeds or ())
