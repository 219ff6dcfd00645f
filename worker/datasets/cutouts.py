"""Cut-out store: the masks and attributes of a data set's photos, made once and kept beside them.

Each process that makes them writes into a folder of its own. The record that points to the folder
is stored last, and only if there is none: of two processes that make them at once one wins, and no
reader sees half of one.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import BaseModel, JsonValue, ValidationError

from models.cutouts.attributes import METHOD, PhotoAttributes, dump, parse, summarise
from worker import damage
from worker.revision_chain import RecordDamaged
from worker.schemas.jobs import new_id
from worker.storage import ObjectExists, ObjectNotFound, Storage


class NotPrepared(LookupError):
    """The masks of the data set's photos have not been made yet."""


class CutoutRecord(BaseModel):
    """Where the cut-outs of a data set are, and what they show."""

    folder: str
    summary: dict[str, JsonValue]  # by `models.cutouts.attributes.summarise`


@dataclass(frozen=True)
class CutoutStore:
    """The cut-outs of one data set."""

    storage: Storage
    dataset_id: str

    def find(self) -> CutoutRecord | None:
        """The record; None where the cut-outs have not been made, or by an older method only.

        A damaged record counts as none, since the cut-outs can be made again.
        """
        try:
            return CutoutRecord.model_validate_json(self.storage.read(self._key))
        except ObjectNotFound:
            return None
        except ValidationError:
            damage.report(self.storage, "dataset", self._key)
            return None

    def fetch(self) -> CutoutRecord:
        """The record; raises NotPrepared where there is none."""
        record = self.find()
        if record is None:
            raise NotPrepared(f"{self.dataset_id} is not prepared: POST /jobs/prepare, and wait")
        return record

    def add(
        self, masks: BinaryIO, attributes: list[PhotoAttributes], sheet_png: bytes
    ) -> CutoutRecord:
        """Store the cut-outs unless another process has; returns the record that is stored."""
        folder = f"{self._folder}/{new_id('cut')}"
        self.storage.put(f"{folder}/masks.zip", masks)
        self.storage.put(f"{folder}/attributes.jsonl", dump(attributes))
        self.storage.put(f"{folder}/sheet.png", sheet_png)
        record = CutoutRecord(folder=folder, summary=summarise(attributes))
        content = record.model_dump_json().encode()
        try:
            self.storage.create(self._key, content)
        except ObjectExists:
            if (first := self.find()) is not None:
                self.storage.clear(folder)
                return first
            self.storage.put(self._key, content)  # what is there is damaged
        return record

    def attributes(self, record: CutoutRecord) -> list[PhotoAttributes]:
        """The attributes of all photos, in the order of the canonical zip.

        Raises:
            RecordDamaged: they cannot be read.
        """
        key = f"{record.folder}/attributes.jsonl"
        try:
            return parse(self.storage.read(key))
        except ValueError as error:
            damage.report(self.storage, "dataset", key)
            raise RecordDamaged(f"the attributes of {self.dataset_id} are damaged") from error

    def sheet(self, record: CutoutRecord) -> bytes:
        """The contact sheet of photos, masks and results, PNG."""
        return self.storage.read(f"{record.folder}/sheet.png")

    @contextmanager
    def open_masks(self, record: CutoutRecord) -> Iterator[BinaryIO]:
        """The zip of masks as a local file; its members have the names of the photos."""
        with tempfile.TemporaryFile() as target:
            self.storage.download(f"{record.folder}/masks.zip", target)
            target.seek(0)
            yield target

    @property
    def _folder(self) -> str:
        return f"datasets/{self.dataset_id}/cutouts"

    @property
    def _key(self) -> str:
        return f"{self._folder}/{METHOD}.json"
