"""What the API shows of a data set beyond its record: its preparation."""

import logging

from pydantic import BaseModel, Field, JsonValue
from redis import RedisError

from app.services import Services
from worker.datasets.cutouts import CutoutStore
from worker.datasets.datasets import DatasetRecord
from worker.preparation.submission import REFUSED, preparation_id, queue_preparation
from worker.queue.queue import QueueFull

logger = logging.getLogger(__name__)


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
    """A data set that was just uploaded; its preparation is queued if its default is `studio`."""
    if record.normalise == "as_is":
        return _shown(record, None)
    job_id, refused = None, None
    try:
        job_id = queue_preparation(services.queue, record.id)
    except (QueueFull, RedisError) as error:  # the data set is stored, and stays
        logger.warning("the preparation of %s was not queued: %s", record.id, error)
        refused = REFUSED
    links = _links(record.id, job_id)
    return _shown(record, Preparation(job=job_id, refused=refused, summary=None, links=links))


def _links(dataset_id: str, job_id: str | None) -> dict[str, str]:
    path = f"/datasets/{dataset_id}"
    links = {"preview": f"{path}/preview", "attributes": f"{path}/attributes"}
    return links if job_id is None else {"job": f"/jobs/{job_id}", **links}


def _shown(record: DatasetRecord, preparation: Preparation | None) -> DatasetView:
    return DatasetView(**record.model_dump(), preparation=preparation)
