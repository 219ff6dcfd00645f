"""Request schema of the import job: an uploaded zip becomes a data set."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from worker.schemas.preparation import NORMALISE_MEANS, DatasetId, Normalise
from worker.schemas.webhook_request import WebhookField

UploadId = Annotated[str, StringConstraints(pattern=r"^up_[0-9a-z]{20}$")]
NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"
DatasetName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=NO_CONTROLS)]


class ImportJob(BaseModel):
    """Validate an uploaded zip of photos and store them as a data set."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    upload: UploadId
    name: DatasetName = "photos"
    normalise: Normalise = Field(default="as_is", description=NORMALISE_MEANS)
    webhook: WebhookField = None

    @property
    def dataset(self) -> DatasetId:
        """The id of the data set that it makes."""
        return dataset_id_of(self.upload)


def dataset_id_of(upload_id: str) -> DatasetId:
    """The id of the data set that an upload becomes."""
    return f"ds_{upload_id.removeprefix('up_')}"


def upload_id_of(dataset_id: str) -> str:
    """The id of the upload that a data set was made of, if it was made of a stored one."""
    return f"up_{dataset_id.removeprefix('ds_')}"
