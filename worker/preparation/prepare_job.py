"""The prepare job: masks, attributes and a contact sheet of a data set's photos."""

from collections.abc import Callable

from worker.attempt.attempt import Attempt
from worker.attempt.progress_reporter import ProgressReporter
from worker.attempt.stage_plan import StagePlan
from worker.datasets.datasets import DatasetStore
from worker.preparation.cutting import CUTTING, cut_out, cutting_seconds
from worker.queue.queue import JobQueue
from worker.schemas.preparation import PrepareJob


def run_preparation(attempt: Attempt, jobs: JobQueue, stop_requested: Callable[[], bool]) -> None:
    """Make the cut-outs of a data set, or find them made.

    Raises:
        JobCancelled: a client has cancelled the job.
        JobInterrupted: `stop_requested` returned True; the next attempt begins anew.
        DatasetNotFound: no such data set.
    """
    job, storage = attempt.record.request, jobs.ledger.storage
    assert isinstance(job, PrepareJob)
    dataset = DatasetStore(storage).fetch(job.dataset)
    plan = StagePlan({CUTTING: cutting_seconds(dataset.images)})
    found = cut_out(storage, ProgressReporter(attempt, stop_requested, plan), dataset)
    attempt.succeed({"dataset": dataset.id, **found.summary})
