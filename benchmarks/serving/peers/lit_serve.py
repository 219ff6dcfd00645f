"""LitServe, installed by `pip install litserve` (measured: 0.2.19).

As documented: batching with `max_batch_size` and `batch_timeout`, separately in every worker
(https://lightning.ai/docs/litserve/features/batching); `workers_per_device` to use all cores
(https://lightning.ai/docs/litserve/how-tos/parallelism-types); `fast_queue`, which the docstring of
`litserve.LitServer` advises above 100 requests/s.
"""

import litserve

from benchmarks.serving.peers.common import (
    CORES,
    Answer,
    Painter,
    Wanted,
    port,
)

MAX_BATCH = 32
BATCH_TIMEOUT_S = 0.001  # a single client waits this long; many fill a batch sooner


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Requests in, answers out; a batch is a list."""

    def setup(self, device: str) -> None:  # noqa: ARG002 # called so by LitServe
        """Load the weights, in each worker."""
        self.painter = Painter()

    def decode_request(self, request: Wanted) -> Wanted:
        """Unchanged: LitServe parses by the annotation."""
        return request

    def batch(self, inputs: list[Wanted]) -> list[Wanted]:
        """Unchanged: z is drawn for the whole batch later."""
        return inputs

    def predict(self, x: list[Wanted]) -> list[Answer]:
        """The images of a batch."""
        return self.painter.paint(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Unchanged."""
        return output

    def encode_response(self, output: Answer) -> Answer:
        """Unchanged: LitServe serialises it to JSON."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S, api_path="/generate")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CORES, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=port(),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
