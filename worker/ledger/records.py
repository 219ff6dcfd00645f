"""Job records in object storage: one revision chain for each job.

Of two processes that append the same revision of a job, one succeeds (compare-and-set).
"""

import re
from collections.abc import Iterator

from worker.ledger.artifacts import scratch_folder
from worker.revision_chain import RecordDamaged, RevisionChain
from worker.schemas.jobs import JobRecord, is_id, made_at, now
from worker.storage import Storage

RECORDS = "jobs/records"
REVISION = re.compile(rf"{RECORDS}/([^/]+)/([0-9]{{6}})\.json")
OPEN = "jobs/open"  # a mark for each job that has not ended
REMEMBERED = 10_000  # records in the cache of one process
UNWRITTEN_S = 3600  # after this time, the process that was creating a job is presumed dead


class JobNotFound(LookupError):
    """There is no job with this id."""


class Records:
    """All jobs in one object store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._known: dict[str, JobRecord] = {}  # revisions never change

    def append(self, record: JobRecord) -> JobRecord:
        """Write a job's next revision; durable when this returns.

        Raises:
            ObjectExists: another process has written this revision first.
        """
        if record.revision == 1:
            # The mark first: the reconciler would never find a record without one.
            self.storage.put(_open_key(record.id), b"")
        self._chain(record.id).append(record.revision, record)
        return record

    def find(self, job_id: str) -> JobRecord | None:
        """The first revision; None where there is no such job."""
        return self._chain(job_id).read(1)

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
            JobNotFound: no such job, or it was deleted.
        """
        known = self._known.get(job_id)
        if known is not None and known.terminal and self.find(job_id) is None:
            self._known.pop(job_id, None)
        return self.read_cached(job_id)

    def read_cached(self, job_id: str) -> JobRecord:
        """The newest revision; an ended job comes from the cache, even if it was deleted since.

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
        """The revision that follows; None where there is none."""
        return self._chain(record.id).read(record.revision + 1)

    def ids(self) -> list[str]:
        """All job ids, newest first. It lists every revision; `JobIndex` is the fast way."""
        return sorted(self.newest_numbers(), reverse=True)

    def newest_numbers(self) -> dict[str, int]:
        """The number of each job's newest revision by job id, from one listing of all revisions."""
        newest: dict[str, int] = {}
        for key in self.storage.keys(RECORDS):
            if (found := REVISION.fullmatch(key)) and is_id("job", found[1]):
                newest[found[1]] = int(found[2])
        return newest

    def revision(self, job_id: str, number: int) -> JobRecord | None:
        """One revision of a job; None where there is none.

        Raises:
            RecordDamaged: it cannot be read.
        """
        return self._chain(job_id).read(number)

    def marked_open(self) -> Iterator[JobRecord]:
        """The jobs that are marked as not ended, oldest first; a few may have ended since."""
        for key in self.storage.keys(OPEN):
            job_id = key.removeprefix(f"{OPEN}/")
            if not is_id("job", job_id):
                continue
            try:
                yield self.read(job_id)
            except RecordDamaged:  # it has been reported
                continue
            except JobNotFound:
                # Its first revision is being written, or the process died before it wrote it.
                if (now() - made_at(job_id)).total_seconds() > UNWRITTEN_S:
                    self.storage.delete(key)

    def is_marked(self, job_id: str) -> bool:
        """Whether a job is marked as not ended."""
        return self.storage.exists(_open_key(job_id))

    def close(self, job_id: str) -> None:
        """Delete an ended job's scratch files, then its mark: after a crash, this is retried."""
        self.storage.clear(scratch_folder(job_id))
        self.storage.delete(_open_key(job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job's record; without its first revision, deleted first, the job is unknown."""
        self._chain(job_id).delete()
        self._known.pop(job_id, None)

    def _chain(self, job_id: str) -> RevisionChain[JobRecord]:
        return RevisionChain(self.storage, f"{RECORDS}/{job_id}", JobRecord, "job")


def _open_key(job_id: str) -> str:
    return f"{OPEN}/{job_id}"
