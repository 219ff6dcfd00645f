"""Plain FastAPI, without a serving framework: the simplest implementation.

The endpoint is a `def`, which FastAPI runs in its thread pool, as its documentation advises for
code that blocks (https://fastapi.tiangolo.com/async/); one worker process for each core
(https://fastapi.tiangolo.com/deployment/server-workers/), each with one torch thread.
"""

from functools import cache

import uvicorn
from fastapi import FastAPI

from benchmarks.serving.peers.common import (
    CORES,
    Answer,
    Painter,
    Wanted,
    port,
)

app = FastAPI()
painter = cache(Painter)


@app.post("/generate")
def generate(wanted: Wanted) -> Answer:
    """One image."""
    return painter().paint([wanted])[0]


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving.peers.plain_fastapi:app",
        port=port(),
        workers=CORES,
        timeout_worker_healthcheck=60,  # importing torch takes long on a busy machine
        log_level="warning",
        access_log=False,
    )
