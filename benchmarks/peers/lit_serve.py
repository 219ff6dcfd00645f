"""LitServe, installed by `pip install litserve` (measured: 0.2.19).

Followed: batching with `max_batch_size` and `batch_timeout`, which every worker does for itself
(https://lightning.ai/docs/litserve/features/batching); `workers_per_device` to use all cores
(https://lightning.ai/docs/litserve/how-tos/parallelism-types); `fast_queue`, which the docstring of
`litserve.LitServer` advises above 100 requests/s.
"""

import litserve

from benchmarks.peers.common import CORES, Answer, Painter, Wanted, port

MAX_BATCH = 32
BATCH_TIMEOUT_S = 0.001  # a client alone waits for it, and many fill a batch without


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Requests in, answers out; a batch is a list."""

    def setup(self, device: str) -> None:  # noqa: ARG002 # called so by LitServe
        """Load the weights, in each worker."""
        self.painter = Painter()

    def decode_request(self, request: Wanted) -> Wanted:
        """As it is: LitServe parses what the annotation says."""
        return request

    def batch(self, inputs: list[Wanted]) -> list[Wanted]:
        """As it is: z is drawn for the whole batch later."""
        return inputs

    def predict(self, x: list[Wanted]) -> list[Answer]:
        """The images of a batch."""
        return self.painter.paint(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """As it is."""
        return output

    def encode_response(self, output: Answer) -> Answer:
        """As it is: LitServe makes the JSON."""
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
