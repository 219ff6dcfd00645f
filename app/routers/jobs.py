"""Jobs: submitted, watched, cancelled; the files they make."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Response

from app.auth import require
from app.dependencies import JSON, DatasetsDep, Limit, QueueDep, StorageDep
from app.errors import Problem
from app.schemas import Artifact, Artifacts, JobView, Page
from worker.artifacts import FILE_NAME, artifact_folder, artifact_key, media_type
from worker.jobs import JobStatus, JobType, TrainJob
from worker.queue import JobQueue

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[Depends(require("manage"))])

JOB_ID = r"^job_[0-9a-z]{20}$"
JobIdPath = Annotated[str, Path(pattern=JOB_ID, description="The `id` returned at submission.")]
Cursor = Annotated[str | None, Query(pattern=JOB_ID, description="A `last_id`.")]
EXAMPLE = {
    "dataset": "ds_00000000000000sample",
    "model": "my-first-model",
    "resolution": 32,
    "preset": "fast",
    "max_seconds": 30,
    "batch_size": 16,
}


@router.post("/train", status_code=202, dependencies=[JSON])
def submit_train_job(
    job: Annotated[TrainJob, Body(openapi_examples={"sample": {"value": EXAMPLE}})],
    queue: QueueDep,
    datasets: DatasetsDep,
    response: Response,
) -> JobView:
    """Queue a training job. Poll the URL in the `Location` header for its status."""
    dataset = datasets.fetch(job.dataset)
    photos = dataset.training_images
    if job.batch_size is not None and job.batch_size > photos:
        raise Problem(
            422, "invalid_request", f"batch_size: must be at most {photos}, the photos trained on"
        )
    record = queue.submit("train", job)
    response.headers["Location"] = f"/jobs/{record.id}"
    return JobView.of(record, queue.position(record))


@router.get("", dependencies=[JSON])
def list_jobs(
    queue: QueueDep,
    job_type: Annotated[JobType | None, Query(alias="type")] = None,
    status: JobStatus | None = None,
    limit: Limit = 20,
    after: Cursor = None,
) -> Page[JobView]:
    """Jobs, newest first."""
    records, has_more = queue.page(job_type, status, limit, after)
    data = [JobView.of(record, queue.position(record)) for record in records]
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get("/{job_id}", dependencies=[JSON])
def read_job(job_id: JobIdPath, queue: QueueDep) -> JobView:
    """Status, progress, metrics and, once finished, the result."""
    return _view(queue, job_id)


@router.post("/{job_id}/cancel", status_code=202, dependencies=[JSON])
def cancel_job(job_id: JobIdPath, queue: QueueDep) -> JobView:
    """Ask a job to stop; it does within seconds. Asking twice is no error."""
    queue.cancel(job_id)
    return _view(queue, job_id)


@router.get("/{job_id}/artifacts", dependencies=[JSON])
def list_artifacts(job_id: JobIdPath, queue: QueueDep, storage: StorageDep) -> Artifacts:
    """The files a job has made so far: sample sheets by images seen, metrics, curves."""
    queue.fetch(job_id)
    keys = list(storage.keys(artifact_folder(job_id)))
    names = [(key, key.rsplit("/", 1)[-1]) for key in keys]
    return Artifacts(
        data=[
            Artifact(
                name=name, size_bytes=storage.size(key), url=f"/jobs/{job_id}/artifacts/{name}"
            )
            for key, name in names
        ]
    )


@router.get("/{job_id}/artifacts/{name}", response_class=Response)
def read_artifact(
    job_id: JobIdPath,
    name: Annotated[str, Path(pattern=FILE_NAME, examples=["samples.png"])],
    queue: QueueDep,
    storage: StorageDep,
) -> Response:
    """One of a job's files."""
    queue.fetch(job_id)
    data = storage.read(artifact_key(job_id, name))
    return Response(data, media_type=media_type(name))


def _view(queue: JobQueue, job_id: str) -> JobView:
    record = queue.fetch(job_id)
    return JobView.of(record, queue.position(record))
