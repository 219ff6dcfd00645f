"""Direct uploads: clients send a zip to the object store by a presigned URL, past the API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from app.dependencies import JSON, AbandonedDep, ServicesDep, require
from app.errors import can_answer
from app.routers.dataset_views import DatasetView, prepare_uploaded
from app.routers.respond_async import (
    IMPORTS,
    JOB_ONLY,
    RespondAsyncDep,
    can_accept,
    check_webhook,
    queued,
)
from app.schemas import Strict
from models.data.archive import ArchiveLimits
from worker.datasets.datasets import UploadOptions
from worker.datasets.direct_uploads import UploadTicket, open_upload
from worker.imports.submission import submit_sent
from worker.schemas.dataset_import import DatasetName, ImportJob
from worker.schemas.preparation import NORMALISE_MEANS, Normalise
from worker.schemas.webhook_request import Webhook

router = APIRouter(
    prefix="/datasets/uploads", tags=["datasets"], dependencies=[Depends(require("manage"))]
)

UploadIdPath = Annotated[
    str, Path(pattern=r"^up_[0-9a-z]{20}$", description="The `upload` that was handed out.")
]


class CompleteUpload(Strict):
    """Name of the new data set, and how trainings normalise its photos that do not say it."""

    name: DatasetName = "photos"
    normalise: Normalise = Field(default="as_is", description=NORMALISE_MEANS)
    webhook: Webhook | None = Field(
        default=None, description=f"Told when the job has ended. {JOB_ONLY}"
    )


@router.post("", status_code=201, responses=can_answer(409), dependencies=[JSON])
def open_direct_upload(services: ServicesDep) -> UploadTicket:
    """A URL to `PUT` a zip to within the hour. Needs a store on S3, Google Cloud or Azure."""
    return open_upload(services.storage)


@router.post(
    "/{upload_id}/complete",
    status_code=201,
    response_model=DatasetView,
    responses={**can_accept(IMPORTS), **can_answer(409)},
    dependencies=[JSON],
)
def complete_direct_upload(
    upload_id: UploadIdPath,
    body: CompleteUpload,
    later: RespondAsyncDep,
    services: ServicesDep,
    abandoned: AbandonedDep,
    response: Response,
) -> DatasetView | Response:
    """Validate and store a sent zip, as `POST /datasets` does. A repeated call changes nothing."""
    check_webhook(body.webhook, later=later)
    if later:
        job = ImportJob(upload=upload_id, **dict(body))
        return queued(services.queue, submit_sent(services.queue, job))
    limits = ArchiveLimits(total_bytes=services.settings.max_dataset_bytes)
    record = services.uploads.complete(
        upload_id,
        UploadOptions(body.name, body.normalise),
        limits,
        services.settings.max_upload_bytes,
        abandoned,
    )
    response.headers["Location"] = f"/datasets/{record.id}"
    return prepare_uploaded(services, record)
