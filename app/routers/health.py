"""Health checks: liveness (`/health/live`) and readiness (`/health/ready`)."""

from fastapi import APIRouter
from redis import RedisError

from app.dependencies import ServicesDep
from app.errors import Problem
from app.schemas import Health
from models.checkpoint import CheckpointError
from worker.registry.registry import ModelNotFound, WeightsDamaged
from worker.storage import StorageError

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
def live() -> Health:
    """Liveness: the process answers."""
    return Health()


@router.get("/ready")
def ready(
    services: ServicesDep,
) -> Health:
    """Readiness: Redis, the object store and the default model are available; else 503."""
    missing = []
    try:
        services.queue.leases.redis.ping()
    except RedisError:
        missing.append("redis")
    try:
        services.sampler.engines.open(services.resolver.resolve(None))
    except StorageError:
        missing.append("storage")
    except (ModelNotFound, WeightsDamaged, CheckpointError):
        missing.append("default model")
    if missing:
        raise Problem(503, "not_ready", f"Missing: {', '.join(missing)}.")
    return Health()
