"""Training log (metrics.jsonl): the metrics of a training, one JSON object per line."""

import json
import time
from collections.abc import Sequence

from models.training.train import Progress

Lines = Sequence[dict[str, float]]
PLACE = ("step", "images", "seconds", "time")  # when a line was written; the rest are metrics


def line_of(progress: Progress) -> dict[str, float]:
    """The beginning of a step's line; `time` is in seconds since 1970, as TensorBoard has it."""
    return {
        "step": progress.step,
        "images": progress.images,
        "seconds": progress.seconds,
        "time": round(time.time(), 3),
    }


def dump(lines: Lines) -> bytes:
    """The file's content."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def parse(data: bytes, up_to_step: float = float("inf")) -> list[dict[str, float]]:
    """The lines up to a checkpoint's step; a failed attempt may have written later ones."""
    lines = [json.loads(line) for line in data.decode().splitlines()]
    return [line for line in lines if line["step"] <= up_to_step]
