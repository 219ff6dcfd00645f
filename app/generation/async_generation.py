"""Asynchronous generation: `Prefer: respond-async` and `POST /jobs/generate` queue a job."""

from collections.abc import Callable
from contextlib import suppress

from app.generation.generate_images import check_category, check_options, fresh_seed
from app.schemas import JobView
from worker.queue.queue import JobQueue
from worker.queue.queue_position import position_of
from worker.registry.model_versions import ModelCard
from worker.registry.registry import ModelNotFound, Registry
from worker.schemas.jobs import IllegalMove
from worker.schemas.requests import GenerateJob

IdFor = Callable[[str, Callable[[], bytes]], str | None]  # see `dependencies.idempotent_id`


def submit_generation(
    queue: JobQueue, registry: Registry, id_for: IdFor, job: GenerateJob, card: ModelCard
) -> JobView:
    """Queue a job that generates images of a version; raises Problem on options it lacks.

    The version and the seed are fixed now: an alias may point elsewhere by the time the job runs.

    Raises:
        ModelNotFound: the version was deleted meanwhile; the job is cancelled.
    """
    check_options(job, card)
    for category in job.categories or ():
        check_category(category, card)
    job_id = id_for("job", lambda: job.model_dump_json().encode())
    settled = {
        "model": f"{card.name}:{card.version}",
        "seed": fresh_seed() if job.seed is None else job.seed,
    }
    record = queue.submit("generate", job.model_copy(update=settled), job_id)
    try:
        registry.keep(card.name, card.version)
    except ModelNotFound:
        with suppress(IllegalMove):  # it has failed already
            queue.cancel(record.id)
        raise
    return JobView.of(record, position_of(queue, record))
