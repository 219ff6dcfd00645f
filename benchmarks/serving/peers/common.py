"""Shared code of the peers: schemas, image generation, and the port and weights to use.

The work is the same as ours and done by the same functions, but in batches where the peer makes
them: z from the seed, the generator, bytes, a PNG with its provenance, base64.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from pybase64 import b64encode_as_string
from pydantic import BaseModel
from typing_extensions import TypedDict

from models.checkpoint import load_model
from models.imaging.encoding import Provenance, encode
from models.inference.sample import sample_batch

PORT, WEIGHTS = "SERVING_PORT", "SERVING_WEIGHTS"  # environment variables of every peer
CORES = len(os.sched_getaffinity(0))


class Wanted(BaseModel):
    """The body of a request."""

    category: str
    seed: int


class Image(TypedDict):
    """One image of an answer."""

    b64_json: str
    seed: int
    category: str


class Answer(TypedDict):
    """The body of an answer."""

    data: list[Image]


def port() -> int:
    """The port that the peer listens on, at 127.0.0.1."""
    return int(os.environ[PORT])


class Painter:
    """The generator of one worker process."""

    def __init__(self, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.model = load_model(Path(os.environ[WEIGHTS]).read_bytes(), torch.device("cpu"))
        self.labels = {name: label for label, name in enumerate(self.model.categories)}

    def paint(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """One answer per request, all computed in one batch."""
        labels = [self.labels[each.category] for each in wanted]
        images = sample_batch(self.model.generator, [each.seed for each in wanted], labels)
        answers: list[Answer] = []
        for pixels, each in zip(images.permute(0, 2, 3, 1).numpy(), wanted, strict=True):
            origin = Provenance(model="peer", version=1, seed=each.seed)
            content = b64encode_as_string(encode(pixels, "png", provenance=origin))
            answers.append(
                {"data": [{"b64_json": content, "seed": each.seed, "category": each.category}]}
            )
        return answers
