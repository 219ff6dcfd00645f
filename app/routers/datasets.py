"""`/datasets`: upload, list, preview and delete zips of product photos, a folder per category."""

import hashlib
from dataclasses import dataclass
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
from app.routers.respond_async import (
    IMPORTS,
    JOB_ONLY,
    RespondAsyncDep,
    can_accept,
    check_webhook,
    queued,
)
from app.schemas import Page
from models.cutouts.attributes import PhotoAttributes, as_csv
from models.data.archive import ArchiveLimits
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord, UploadOptions
from worker.datasets.importing import check_directory
from worker.imports.submission import submit_zip
from worker.schemas.dataset_import import DatasetName, ImportJob
from worker.schemas.jobs import new_id
from worker.schemas.preparation import NORMALISE_MEANS, Normalise
from worker.schemas.webhook_request import Webhook, WebhookUrl

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[Depends(require("manage"))])

DatasetIdPath = Annotated[
    str,
    Path(pattern=r"^ds_[0-9a-z]{20}$", examples=["ds_00000000000000sample"]),
]
Cursor = Annotated[str | None, Query(pattern=r"^ds_[0-9a-z]{20}$", description="A `last_id`.")]
PhotoName = Annotated[
    str, Query(pattern=r"^[0-9]{3,6}/[0-9]{6,9}\.(png|jpg)$", description="A `last_id`.")
]
JSON_AND_CSV = ("application/json", "text/csv")
JSON_OR_CSV = accepts(*JSON_AND_CSV)


@dataclass(frozen=True)
class UploadForm:
    """The form's fields beside the file, and whether the client prefers a job."""

    options: UploadOptions
    later: bool
    webhook: Webhook | None  # of the job

    def encoded(self) -> bytes:
        """Bytes that differ where what is asked for does."""
        if not self.later:
            return self.options.encoded()
        webhook = b"" if self.webhook is None else self.webhook.model_dump_json().encode()
        return self.options.encoded() + b"\0respond-async\0" + webhook

    def import_job(self, upload_id: str) -> ImportJob:
        """The job that the client prefers."""
        name, normalise = self.options.name, self.options.normalise
        return ImportJob(upload=upload_id, name=name, normalise=normalise, webhook=self.webhook)


def upload_form(
    later: RespondAsyncDep,
    name: Annotated[DatasetName, Form()] = "photos",
    normalise: Annotated[
        Normalise, Form(description=f"What trainings do that do not say it. {NORMALISE_MEANS}")
    ] = "as_is",
    webhook: Annotated[
        WebhookUrl | None, Form(description=f"URL that is told the end of the job. {JOB_ONLY}")
    ] = None,
) -> UploadForm:
    """Parse what comes with the file; raises Problem."""
    check_webhook(webhook, later=later)
    told = None if webhook is None else Webhook(url=webhook)
    return UploadForm(UploadOptions(name, normalise), later, told)


@router.post(
    "",
    status_code=201,
    response_model=DatasetView,
    responses={**can_accept(IMPORTS), **can_answer(409)},
    dependencies=[JSON],
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 4096},
)
def upload_dataset(
    file: Annotated[UploadFile, File(description="A zip with one folder of photos per category.")],
    services: ServicesDep,
    id_for: IdempotentIdDep,
    abandoned: AbandonedDep,
    response: Response,
    form: Annotated[UploadForm, Depends(upload_form)],
) -> DatasetView | Response:
    """Validate and store a zip of photos. The report lists what was kept and what was not.

    With `normalise` = `studio`, a job that finds the products in the photos is queued at once. With
    `Prefer: respond-async` a job decodes the photos, after the zip is stored.
    """
    limits = ArchiveLimits(total_bytes=services.settings.max_dataset_bytes)

    def asked() -> bytes:
        return _digest(file.file) + form.encoded()

    if form.later:
        check_directory(file.file, limits)
        file.file.seek(0)
        job = form.import_job(id_for("up", asked) or new_id("up"))
        return queued(services.queue, submit_zip(services.queue, file.file, job))
    dataset_id = id_for("ds", asked)
    record = services.uploads.add(file.file, form.options, limits, dataset_id, abandoned)
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
