"""BentoML, installed by `pip install bentoml` (measured: 1.4.40).

As documented: adaptive batching (https://docs.bentoml.com/en/latest/guides/adaptive-batching.html)
and one worker for each core, each with one torch thread
(https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html). Batching takes a
list from the client and answers with one. The validator and the serializer below convert from and
to lists of one, which saves the second service that the documentation uses for that. Without
batching, a single client gets its answer sooner.
"""

import os
import sys
from typing import Annotated, Any

import bentoml
from pydantic import BeforeValidator, PlainSerializer

from benchmarks.serving.peers.common import (
    CORES,
    Answer,
    Painter,
    Wanted,
    port,
)

MAX_BATCH = 32
MAX_LATENCY_MS = 10_000  # requests beyond it are refused, which the benchmark must avoid


def _listed(body: Any) -> Any:
    return body if isinstance(body, list) else [body]


def _single(answers: list[Answer]) -> Answer:
    return answers[0]


Batch = Annotated[list[Wanted], BeforeValidator(_listed)]
Answers = Annotated[list[Answer], PlainSerializer(_single)]


@bentoml.service(
    workers=CORES,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
)
class Generate:
    """The service."""

    def __init__(self) -> None:
        self.painter = Painter()

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS
    )
    def generate(self, wanted: Batch, /) -> Answers:
        """The images of a batch."""
        return self.painter.paint(wanted)


if __name__ == "__main__":
    service = "benchmarks.serving.peers.bento_ml:Generate"
    arguments = ["-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port())]
    os.execv(sys.executable, [sys.executable, *arguments])
