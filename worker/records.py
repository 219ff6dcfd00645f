"""Job records in object storage: for each job a chain of revisions, which only grows.

Each revision can be created only once: of two processes that want to move a job from where it is,
storage lets one.
"""

import logging
from collections.abc import Iterator

from pydantic import ValidationError

from worker.artifacts import scratch_folder
from worker.jobs import JobRecord, made_at, now
from worker.storage import ObjectExists, ObjectNotFound, Storage, StorageError

logger = logging.getLogger(__name__)

RECORDS = "jobs/records"
OPEN = "jobs/open"  # a mark for each job that has not ended
REMEMBERED = 10_000  # records
UNWRITTEN_S = 3600  # after which whoever wanted to write a job's first revision is dead


class JobNotFound(LookupError):
    """No job has this id."""


class RecordDamaged(StorageError):
    """What is stored of a job cannot be read; the others can."""


class Records:
    """All jobs in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._known: dict[str, JobRecord] = {}  # revisions never change

    def append(self, record: JobRecord) -> JobRecord:
        """Write a job's next revision; durable when this returns.

        Raises:
            ObjectExists: another process was faster.
        """
        key, data = _key(record.id, record.revision), record.model_dump_json().encode()
        if record.revision == 1:
            # The mark first: a record without one would never be looked after.
            self.storage.put(_open_key(record.id), b"")
        try:
            self.storage.create(key, data)
        except ObjectExists:
            # Perhaps it is ours, and only the store's answer was lost.
            if self.storage.read(key) != data:
                raise
        return record

    def find(self, job_id: str) -> JobRecord | None:
        """The first revision, where there is such a job."""
        return self._revision(job_id, 1)

    def first(self, job_id: str) -> JobRecord:
        """The first revision.

        Raises:
            JobNotFound: no such job.
        """
        record = self.find(job_id)
        if record is None:
            raise JobNotFound(f"no job {job_id}")
        return record

    def read(self, job_id: str) -> JobRecord:
        """The newest revision.

        Raises:
            JobNotFound: no such job.
        """
        record = self._known.get(job_id) or self.first(job_id)
        while not record.terminal and (newer := self.after(record)) is not None:
            record = newer
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[job_id] = record
        return record

    def after(self, record: JobRecord) -> JobRecord | None:
        """The revision that follows, where there is one."""
        return self._revision(record.id, record.revision + 1)

    def ids(self) -> list[str]:
        """All job ids, newest first."""
        return sorted({key.split("/")[2] for key in self.storage.keys(RECORDS)}, reverse=True)

    def marked(self) -> Iterator[JobRecord]:
        """The jobs whose mark says that they have not ended, oldest first. Some may have."""
        for key in self.storage.keys(OPEN):
            job_id = key.rsplit("/", 1)[-1]
            try:
                yield self.read(job_id)
            except RecordDamaged as error:
                logger.error("%s", error)
            except JobNotFound:
                # It is being written, or whoever wanted to write it died before.
                if (now() - made_at(job_id)).total_seconds() > UNWRITTEN_S:
                    self.storage.delete(key)

    def is_marked(self, job_id: str) -> bool:
        """Whether a job's mark says that it has not ended."""
        return self.storage.exists(_open_key(job_id))

    def close(self, job_id: str) -> None:
        """Take away what an ended job has needed; its mark last, so that this is done, or again."""
        self.storage.clear(scratch_folder(job_id))
        self.storage.delete(_open_key(job_id))

    def _revision(self, job_id: str, number: int) -> JobRecord | None:
        try:
            return JobRecord.model_validate_json(self.storage.read(_key(job_id, number)))
        except ObjectNotFound:
            return None
        except ValidationError as error:
            raise RecordDamaged(f"revision {number} of {job_id} is damaged") from error


def _key(job_id: str, revision: int) -> str:
    return f"{RECORDS}/{job_id}/{revision:06d}.json"


def _open_key(job_id: str) -> str:
    return f"{OPEN}/{job_id}"
