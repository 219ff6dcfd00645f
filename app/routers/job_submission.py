"""Submission of jobs: `POST /jobs/train`, `/jobs/nas`, `/jobs/generate` and `/jobs/prepare`."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from app.dependencies import JSON, IdempotentIdDep, ServicesDep, SubmitGenerationDep, require
from app.errors import Problem
from app.generation.async_generation import IdFor
from app.schemas import JobView
from models.data.category_names import index_of
from models.search.search_space import narrow
from worker.datasets.datasets import DatasetRecord
from worker.queue.queue import JobQueue
from worker.queue.queue_position import position_of
from worker.schemas.jobs import JobRecord
from worker.schemas.preparation import PrepareJob
from worker.schemas.requests import GenerateJob, JobRequest, JobType, NasJob, TrainJob

router = APIRouter(prefix="/jobs", tags=["jobs"])

MANAGE = Depends(require("manage"))
# The generate scope also covers bulk generation.
EITHER = Depends(require("generate", "manage"))

EXAMPLE = {
    "dataset": "ds_00000000000000sample",
    "model": "my-first-model",
    "resolution": 32,
    "preset": "fast",
    "max_seconds": 30,
    "batch_size": 16,
}
NAS_EXAMPLE = {
    "dataset": "ds_00000000000000sample",
    "model": "my-searched-model",
    "resolution": 32,
    "preset": "fast",
    "max_trials": 6,
    "max_seconds": 120,
}
PREPARE_EXAMPLE = {"dataset": "ds_00000000000000sample"}
GENERATE_EXAMPLE = {"model": "fashion-mnist", "n": 200, "seed": 1, "output_format": "webp"}


@router.post("/train", status_code=202, dependencies=[MANAGE, JSON])
def submit_train_job(
    job: Annotated[TrainJob, Body(openapi_examples={"sample": {"value": EXAMPLE}})],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    response: Response,
) -> JobView:
    """Queue a training job. Poll the URL in the `Location` header for its status."""
    dataset = services.datasets.fetch(job.dataset)
    _check_background(job, dataset)
    photos = dataset.training_images
    if job.batch_size is not None and job.batch_size > photos:
        raise Problem(
            422, "invalid_request", f"batch_size: must be at most {photos}, the photos trained on"
        )
    if job.architecture is not None:
        _check_search(services.queue.fetch(job.architecture.from_job), job)
    return _submitted(services.queue, "train", job, id_for, response)


@router.post("/nas", status_code=202, dependencies=[MANAGE, JSON])
def submit_nas_job(
    job: Annotated[NasJob, Body(openapi_examples={"sample": {"value": NAS_EXAMPLE}})],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    response: Response,
) -> JobView:
    """Queue a search for a better generator and discriminator; it ends with a registered model."""
    dataset = services.datasets.fetch(job.dataset)
    _check_background(job, dataset)
    if not dataset.is_searchable:
        raise Problem(
            422, "invalid_request", "dataset: has too few photos for a search; upload more"
        )
    if job.search_space is not None:
        try:
            narrow(job.search_space)
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from error
    category = job.generate.category if job.generate else None
    if category is not None and index_of(category, dataset.categories) is None:
        known = ", ".join(dataset.categories)
        raise Problem(422, "unknown_category", f"generate.category: must be one of {known}")
    return _submitted(services.queue, "nas", job, id_for, response)


@router.post("/prepare", status_code=202, dependencies=[MANAGE, JSON])
def submit_prepare_job(
    job: Annotated[PrepareJob, Body(openapi_examples={"sample": {"value": PREPARE_EXAMPLE}})],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    response: Response,
) -> JobView:
    """Queue the search for the products in a data set's photos: masks, colours, and a sheet.

    Its queue is that of bulk generation, so it does not wait behind trainings.
    """
    services.datasets.fetch(job.dataset)
    return _submitted(services.queue, "prepare", job, id_for, response)


@router.post("/generate", status_code=202, dependencies=[EITHER, JSON])
def submit_generate_job(
    job: Annotated[GenerateJob, Body(openapi_examples={"webp": {"value": GENERATE_EXAMPLE}})],
    services: ServicesDep,
    submit: SubmitGenerationDep,
    response: Response,
) -> JobView:
    """Queue up to 100,000 images: a file each, a zip, a manifest and a contact sheet.

    The files are the job's artifacts; the first ones appear while it still runs.
    """
    view = submit(job, services.resolver.resolve(job.model))
    response.headers["Location"] = view.links["self"]
    return view


def _check_background(job: TrainJob | NasJob, dataset: DatasetRecord) -> None:
    """Refuse a background that the photos would not get."""
    if job.background is not None and dataset.normalisation(job.normalise) == "as_is":
        detail = 'background: only with "normalise": "studio"'
        raise Problem(422, "invalid_request", detail)


def _check_search(search: JobRecord, job: TrainJob) -> None:
    """Check that `architecture.from_job` is a finished search at this resolution."""
    if not isinstance(search.request, NasJob) or search.status != "succeeded":
        detail = "must be a nas job that has succeeded"
    elif search.request.resolution != job.resolution:
        detail = f"searched at {search.request.resolution} px; set resolution to that"
    else:
        return
    raise Problem(422, "invalid_request", f"architecture.from_job: {detail}")


def _submitted(
    queue: JobQueue, job_type: JobType, job: JobRequest, id_for: IdFor, response: Response
) -> JobView:
    job_id = id_for("job", lambda: job.model_dump_json().encode())
    record = queue.submit(job_type, job, job_id)
    response.headers["Location"] = f"/jobs/{record.id}"
    return JobView.of(record, position_of(queue, record))
