"""Uploads that go straight to the object store, so that no zip passes through the API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from app.auth import require
from app.dependencies import JSON, SettingsDep, StorageDep, UploadsDep
from app.errors import can_answer
from app.routers.datasets import NO_CONTROLS
from app.schemas import Strict
from models.archive import ArchiveLimits
from worker.datasets import DatasetRecord
from worker.direct_uploads import UploadTicket, open_upload

router = APIRouter(
    prefix="/datasets/uploads", tags=["datasets"], dependencies=[Depends(require("manage"))]
)

UploadIdPath = Annotated[
    str, Path(pattern=r"^up_[0-9a-z]{20}$", description="The `upload` that was handed out.")
]


class CompleteUpload(Strict):
    """What the data set is to be called."""

    name: str = Field(default="photos", min_length=1, max_length=100, pattern=NO_CONTROLS)


@router.post("", status_code=201, responses=can_answer(409), dependencies=[JSON])
def open_direct_upload(storage: StorageDep) -> UploadTicket:
    """Where to `PUT` a zip within the hour. Only where objects are on S3, Google Cloud or Azure."""
    return open_upload(storage)


@router.post(
    "/{upload_id}/complete", status_code=201, responses=can_answer(409), dependencies=[JSON]
)
def complete_direct_upload(
    upload_id: UploadIdPath,
    body: CompleteUpload,
    uploads: UploadsDep,
    settings: SettingsDep,
    response: Response,
) -> DatasetRecord:
    """Validate what was sent and keep it, as `POST /datasets` does; sent twice, it counts once."""
    limits = ArchiveLimits(total_bytes=settings.max_dataset_bytes)
    record = uploads.complete(upload_id, body.name, limits, settings.max_upload_bytes)
    response.headers["Location"] = f"/datasets/{record.id}"
    return record
