"""Ray Serve, installed by `pip install 'ray[serve]'` (measured: 2.60.0).

As documented: `@serve.batch` (https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html);
one replica for each core, each with one torch thread
(https://docs.ray.io/en/latest/serve/advanced-guides/performance.html); RAY_SERVE_ENABLE_HA_PROXY
and RAY_SERVE_THROUGHPUT_OPTIMIZED
(https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html). HAProxy was faster
than Ray's own proxy; with it, Ray Serve listens on all interfaces.
"""

import os
import signal

# Read when ray is imported, here and in the processes that it starts.
os.environ |= {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.peers.common import (
    CORES,
    Answer,
    Painter,
    Wanted,
    port,
)

MAX_BATCH = 32
BATCH_WAIT_S = 0.001
MAX_ONGOING = 256  # requests at one replica; the default, 5, would keep batches small


@serve.deployment(
    num_replicas=CORES,
    max_ongoing_requests=MAX_ONGOING,
    # Ray counts declared cores to place replicas, and its own proxy declares none.
    ray_actor_options={"num_cpus": 0.5},
)
class Generate:
    """One replica."""

    def __init__(self) -> None:
        self.painter = Painter()

    @serve.batch(  # type: ignore[untyped-decorator]
        max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S
    )
    async def paint(self, wanted: list[Wanted]) -> list[Answer]:
        """The images of a batch."""
        return self.painter.paint(wanted)

    async def __call__(self, request: Request) -> Answer:
        """One request, which waits for the others of its batch."""
        answer: Answer = await self.paint(Wanted.model_validate(await request.json()))
        return answer


def main() -> None:
    """Serve until SIGTERM."""
    ray.init(num_cpus=CORES, include_dashboard=False, logging_level="warning", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    application = Generate.bind()  # type: ignore[attr-defined] # what the decorator makes of it
    serve.run(application, route_prefix="/generate", logging_config=quiet)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
