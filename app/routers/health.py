"""Health checks: liveness (`/health/live`) and readiness (`/health/ready`)."""

from fastapi import APIRouter
from redis import RedisError

from app.dependencies import ServicesDep
from app.errors import Problem
from app.schemas import Health, Readiness
from models.checkpoint import CheckpointError
from worker.queue.queue_stats import count_workers
from worker.registry.registry import ModelNotFound, WeightsDamaged
from worker.revision_chain import RecordDamaged
from worker.schemas.requests import QueueName
from worker.storage import StorageError

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
def live() -> Health:
    """Liveness: the process answers."""
    return Health()


@router.get("/ready")
def ready(
    services: ServicesDep,
) -> Readiness:
    """Readiness: Redis, object store, default model and background loops are there; else 503.

    Workers need not be there: without them, `POST /generate` answers and jobs wait.
    """
    missing = [f"background loop {name!r}" for name in sorted(services.loops.down)]
    workers: dict[QueueName, int] = {}
    try:
        services.queue.leases.check()
        workers = count_workers(services.queue)
    except RedisError:
        missing.append("redis")
    try:
        services.sampler.engines.open(services.resolver.resolve(None))
    except (ModelNotFound, RecordDamaged, WeightsDamaged, CheckpointError):
        missing.append("default model")
    except StorageError:
        missing.append("storage")
    if missing:
        raise Problem(503, "not_ready", f"Missing: {', '.join(missing)}.")
    return Readiness(workers=workers)
