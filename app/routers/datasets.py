"""`/datasets`: upload, list, preview and delete zips of product photos, a folder per category."""

import hashlib
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, File, Form, Header, Path, Query, Response, UploadFile

from app.dependencies import (
    JSON,
    PNG,
    AbandonedDep,
    IdempotentIdDep,
    Limit,
    ServicesDep,
    accepts,
    require,
)
from app.errors import can_answer
from app.generation.negotiation import preferred
from app.routers.dataset_views import DatasetView, prepare_uploaded, view
from app.schemas import Page
from models.cutouts.attributes import PhotoAttributes, as_csv
from models.data.archive import ArchiveLimits
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord, UploadOptions
from worker.schemas.preparation import NORMALISE_MEANS, Normalise

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[Depends(require("manage"))])

DatasetIdPath = Annotated[
    str,
    Path(pattern=r"^ds_[0-9a-z]{20}$", examples=["ds_00000000000000sample"]),
]
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
Cursor = Annotated[str | None, Query(pattern=r"^ds_[0-9a-z]{20}$", description="A `last_id`.")]
PhotoName = Annotated[
    str, Query(pattern=r"^[0-9]{3,6}/[0-9]{6,9}\.(png|jpg)$", description="A `last_id`.")
]
JSON_AND_CSV = ("application/json", "text/csv")
JSON_OR_CSV = accepts(*JSON_AND_CSV)


def upload_options(
    name: Annotated[str, Form(min_length=1, max_length=100, pattern=NO_CONTROLS)] = "photos",
    normalise: Annotated[
        Normalise, Form(description=f"What trainings do that do not say it. {NORMALISE_MEANS}")
    ] = "as_is",
) -> UploadOptions:
    """The form's fields beside the file."""
    return UploadOptions(name, normalise)


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
    options: Annotated[UploadOptions, Depends(upload_options)],
) -> DatasetView:
    """Validate and store a zip of photos. The report lists what was kept and what was not.

    With `normalise` = `studio`, a job that finds the products in the photos is queued at once.
    """
    limits = ArchiveLimits(total_bytes=services.settings.max_dataset_bytes)
    dataset_id = id_for("ds", lambda: _digest(file.file) + options.encoded())
    record = services.uploads.add(file.file, options, limits, dataset_id, abandoned)
    response.headers["Location"] = f"/datasets/{record.id}"
    return prepare_uploaded(services, record)


@router.get("", dependencies=[JSON])
def list_datasets(
    services: ServicesDep, limit: Limit = 20, after: Cursor = None
) -> Page[DatasetRecord]:
    """Data sets, newest first."""
    data, has_more = services.datasets.page(limit, after)
    return Page(data=data, has_more=has_more, last_id=data[-1].id if data else None)


@router.get("/{dataset_id}", dependencies=[JSON])
def read_dataset(dataset_id: DatasetIdPath, services: ServicesDep) -> DatasetView:
    """A data set with the report of its validation and, once it is prepared, what it shows."""
    return view(services, services.datasets.fetch(dataset_id))


@router.get("/{dataset_id}/preview", response_class=Response, dependencies=[PNG])
def preview_dataset(dataset_id: DatasetIdPath, services: ServicesDep) -> Response:
    """A contact sheet: the first photos of each category, as they are stored.

    Once the data set is prepared: each photo, its mask and the studio photo. A photo whose mask is
    doubtful is its own result.
    """
    return Response(services.datasets.preview(dataset_id), media_type="image/png")


@router.get(
    "/{dataset_id}/attributes",
    response_model=Page[PhotoAttributes],
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **can_answer(409)},
    dependencies=[JSON_OR_CSV],
)
def read_attributes(
    dataset_id: DatasetIdPath,
    services: ServicesDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    limit: Limit = 100,
    after: PhotoName | None = None,
) -> Response:
    """What the products of a prepared data set look like, photo by photo.

    The colour and the share of the photo that the product fills are measured inside its mask.
    `file` is the photo's name in the stored archive. `Accept: text/csv` gets all photos at once.
    """
    services.datasets.fetch(dataset_id)
    store = CutoutStore(services.storage, dataset_id)
    attributes = store.attributes(store.fetch())
    if preferred(accept, JSON_AND_CSV) == "text/csv":
        return Response(as_csv(attributes), media_type="text/csv")
    found = [each for each in attributes if after is None or each.file > after]
    data, has_more = found[:limit], len(found) > limit
    page = Page(data=data, has_more=has_more, last_id=data[-1].file if data else None)
    return Response(page.model_dump_json(), media_type="application/json")


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
