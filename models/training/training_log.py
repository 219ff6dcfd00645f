"""Training log (metrics.jsonl): the metrics of a training, one JSON object per line."""

import json
from collections.abc import Sequence

Lines = Sequence[dict[str, float]]


def dump(lines: Lines) -> bytes:
    """The file's content."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def parse(data: bytes, up_to_step: float = float("inf")) -> list[dict[str, float]]:
    """The lines up to a checkpoint's step; a failed attempt may have written later ones."""
    lines = [json.loads(line) for line in data.decode().splitlines()]
    return [line for line in lines if line["step"] <= up_to_step]
