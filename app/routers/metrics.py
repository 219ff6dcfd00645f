"""GET /metrics, for Prometheus."""

import logging

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from redis import RedisError

from app.auth import require
from app.dependencies import MetricsDep, QueueDep
from worker.figures import Figures, read_figures
from worker.queue import JobQueue

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

REDIS_PATIENCE_S = 1.2  # the answer is due within 2 s, with Redis or without


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    dependencies=[Depends(require("metrics", "manage"))],
)
async def read_metrics(metrics: MetricsDep, queue: QueueDep) -> Response:
    """Requests, generation, jobs, workers and training throughput, of all API processes.

    Where Redis is away, `vitrine_redis_up` is 0 and what concerns jobs is left out.
    """
    body = await to_thread.run_sync(metrics.exposition, await _figures(queue))
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _figures(queue: JobQueue) -> Figures | None:
    with anyio.move_on_after(REDIS_PATIENCE_S):
        try:
            return await to_thread.run_sync(read_figures, queue, abandon_on_cancel=True)
        except RedisError as error:
            logger.warning("metrics without jobs: %s", type(error).__name__)
    return None
