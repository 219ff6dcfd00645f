"""Health: is the process alive, and can it serve."""

from fastapi import APIRouter
from redis import RedisError

from app.dependencies import QueueDep, ResolverDep, SamplerDep
from app.errors import Problem
from app.schemas import Health
from models.checkpoint import CheckpointError
from worker.registry import ModelNotFound, WeightsDamaged
from worker.storage import StorageError

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
def live() -> Health:
    """The process answers."""
    return Health()


@router.get("/ready")
def ready(queue: QueueDep, resolver: ResolverDep, sampler: SamplerDep) -> Health:
    """Redis, the object store and the default model are there; 503 names what is missing."""
    missing = []
    try:
        queue.leases.redis.ping()
    except RedisError:
        missing.append("redis")
    try:
        sampler.engines.open(resolver.resolve(None))
    except StorageError:
        missing.append("storage")
    except (ModelNotFound, WeightsDamaged, CheckpointError):
        missing.append("default model")
    if missing:
        raise Problem(503, "not_ready", f"Missing: {', '.join(missing)}.")
    return Health()
