"""Generation by a worker: what was asked for is settled here, so that it means one thing."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends

from app.dependencies import QueueDep
from app.generation import check_category, check_options, fresh_seed
from app.idempotency import OnceDep
from app.schemas import JobView
from worker.model_versions import ModelCard
from worker.requests import GenerateJob

Defer = Callable[[GenerateJob, ModelCard], JobView]


async def defer(queue: QueueDep, once: OnceDep) -> Defer:
    """Queues a job for images of a version; raises Problem where the version cannot make them."""

    def submit(job: GenerateJob, card: ModelCard) -> JobView:
        check_options(job, card)
        for category in job.categories or ():
            check_category(category, card)
        job_id = once("job", lambda: job.model_dump_json().encode())
        # An alias may point elsewhere by the time that the job runs, or runs once more.
        settled = {
            "model": f"{card.name}:{card.version}",
            "seed": fresh_seed() if job.seed is None else job.seed,
        }
        record = queue.submit("generate", job.model_copy(update=settled), job_id)
        return JobView.of(record, queue.position(record))

    return submit


DeferDep = Annotated[Defer, Depends(defer)]
