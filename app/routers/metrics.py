"""`GET /metrics`, for Prometheus."""

import logging

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from redis import RedisError

from app.dependencies import ServicesDep, require
from worker.queue.queue import JobQueue
from worker.queue.queue_stats import QueueStats, read_queue_stats

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

REDIS_TIMEOUT_S = 1.2  # the answer is due within 2 s, with Redis or without


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    dependencies=[Depends(require("metrics", "manage"))],
)
async def read_metrics(services: ServicesDep) -> Response:
    """Requests, generation, jobs, workers and training throughput, of all API processes.

    If Redis is unreachable, `vitrine_redis_up` is 0 and the job metrics are left out.
    """
    body = await to_thread.run_sync(services.metrics.exposition, await _stats(services.queue))
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _stats(queue: JobQueue) -> QueueStats | None:
    with anyio.move_on_after(REDIS_TIMEOUT_S):
        try:
            return await to_thread.run_sync(read_queue_stats, queue, abandon_on_cancel=True)
        except RedisError as error:
            logger.warning("metrics without jobs: %s", type(error).__name__)
    return None
