"""What the API shows of a data set beyond its record: its preparation."""

import logging

from pydantic import BaseModel, Field, JsonValue
from redis import RedisError

from app.services import Services
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord
from worker.queue.queue import QueueFull
from worker.schemas.preparation import PrepareJob

logger = logging.getLogger(__name__)

REFUSED = "The preparation could not be queued: POST /jobs/prepare later, or train without it."


class Preparation(BaseModel):
    """How far the products in the photos have been found, and what they look like."""

    job: str | None = Field(description="The job that the upload queued, as long as it is kept.")
    refused: str | None = Field(default=None, description="Why the upload queued no job.")
    summary: dict[str, JsonValue] | None = Field(
        description="Once it is done: number of photos, of doubtful ones with the first of them"
        " and reasons, and the colours of each category."
    )
    links: dict[str, str]


class DatasetView(DatasetRecord):
    """A data set with the report of its validation, and its preparation if there is one."""

    preparation: Preparation | None


def view(services: Services, record: DatasetRecord) -> DatasetView:
    """A data set as it is now."""
    found = CutoutStore(services.storage, record.id).find()
    job = None
    if record.normalise == "studio":
        known = services.queue.ledger.records.find(preparation_id(record.id))
        job = None if known is None else known.id
    if found is None and job is None:
        return _shown(record, None)
    summary = None if found is None else found.summary
    return _shown(record, Preparation(job=job, summary=summary, links=_links(record.id, job)))


def prepare_uploaded(services: Services, record: DatasetRecord) -> DatasetView:
    """A data set that was just uploaded; its preparation is queued if its default is `studio`.

    The id of the job follows from that of the data set: an upload that is sent again queues no
    second one.
    """
    if record.normalise == "as_is":
        return _shown(record, None)
    job, refused = PrepareJob(dataset=record.id), None
    job_id: str | None = preparation_id(record.id)
    try:
        services.queue.submit("prepare", job, job_id)
    except (QueueFull, RedisError) as error:  # the data set is stored, and stays
        logger.warning("the preparation of %s was not queued: %s", record.id, error)
        job_id, refused = None, REFUSED
    links = _links(record.id, job_id)
    return _shown(record, Preparation(job=job_id, refused=refused, summary=None, links=links))


def preparation_id(dataset_id: str) -> str:
    """The id of the job that an upload queues."""
    return f"job_{dataset_id.removeprefix('ds_')}"


def _links(dataset_id: str, job_id: str | None) -> dict[str, str]:
    path = f"/datasets/{dataset_id}"
    links = {"preview": f"{path}/preview", "attributes": f"{path}/attributes"}
    return links if job_id is None else {"job": f"/jobs/{job_id}", **links}


def _shown(record: DatasetRecord, preparation: Preparation | None) -> DatasetView:
    return DatasetView(**record.model_dump(), preparation=preparation)
