"""`/datasets`: upload, list, preview and delete zips of product photos, a folder per category."""

import hashlib
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, File, Form, Path, Query, Response, UploadFile

from app.dependencies import JSON, PNG, AbandonedDep, IdempotentIdDep, Limit, ServicesDep, require
from app.errors import can_answer
from app.schemas import Page
from models.data.archive import ArchiveLimits
from worker.datasets.datasets import DatasetRecord

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[Depends(require("manage"))])

DatasetIdPath = Annotated[
    str,
    Path(pattern=r"^ds_[0-9a-z]{20}$", examples=["ds_00000000000000sample"]),
]
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
Cursor = Annotated[str | None, Query(pattern=r"^ds_[0-9a-z]{20}$", description="A `last_id`.")]


@router.post(
    "",
    status_code=201,
    responses=can_answer(409),
    dependencies=[JSON],
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 4096},
)
def upload_dataset(
    file: Annotated[UploadFile, File(description="A zip with one folder of photos per category.")],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    abandoned: AbandonedDep,
    response: Response,
    name: Annotated[str, Form(min_length=1, max_length=100, pattern=NO_CONTROLS)] = "photos",
) -> DatasetRecord:
    """Validate and store a zip of photos. The report lists what was kept and what was not."""
    limits = ArchiveLimits(total_bytes=services.settings.max_dataset_bytes)
    dataset_id = id_for("ds", lambda: _digest(file.file) + name.encode())
    record = services.uploads.add(file.file, name, limits, dataset_id, abandoned)
    response.headers["Location"] = f"/datasets/{record.id}"
    return record


@router.get("", dependencies=[JSON])
def list_datasets(
    services: ServicesDep, limit: Limit = 20, after: Cursor = None
) -> Page[DatasetRecord]:
    """Data sets, newest first."""
    data, has_more = services.datasets.page(limit, after)
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get("/{dataset_id}", dependencies=[JSON])
def read_dataset(dataset_id: DatasetIdPath, services: ServicesDep) -> DatasetRecord:
    """A data set with the report of its validation."""
    return services.datasets.fetch(dataset_id)


@router.get("/{dataset_id}/preview", response_class=Response, dependencies=[PNG])
def preview_dataset(dataset_id: DatasetIdPath, services: ServicesDep) -> Response:
    """A contact sheet: the first photos of each category, as they are stored."""
    return Response(services.datasets.preview(dataset_id), media_type="image/png")


@router.delete("/{dataset_id}", status_code=204, responses=can_answer(409))
def delete_dataset(
    dataset_id: DatasetIdPath,
    services: ServicesDep,
) -> None:
    """Delete a data set that no job uses any more. Models trained on it stay."""
    services.datasets.delete(dataset_id, services.queue.ledger.records)


def _digest(file: BinaryIO) -> bytes:
    """SHA-256 of an upload; leaves the file at its beginning."""
    digest = hashlib.sha256()
    while piece := file.read(2**20):
        digest.update(piece)
    file.seek(0)
    return digest.digest()
