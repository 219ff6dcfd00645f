"""Progress reports of a job's long-running work; each report also checks for cancellation."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from models.progress import Steps
from worker.schemas.jobs import JobProgress, JobRecord

REPORT_EVERY_S = 1.0
STAGE_PERCENT = "stage_percent"  # percent of the stage that is done, reported among the metrics

Item = TypeVar("Item")
Result = TypeVar("Result")


class JobCancelled(Exception):
    """A client has cancelled the job."""


class JobInterrupted(Exception):
    """The worker is shutting down; another one resumes the job."""


class Reportable(Protocol):
    """What `ProgressReporter` reports to: an `Attempt` or a `SearchHelper`."""

    record: JobRecord
    reported_at: float  # `time.monotonic` of the last report, or of the start

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Record stage, progress and metrics, and renew the lease."""

    def cancel_requested(self) -> bool:
        """Whether the work is to stop."""


class ProgressReporter:
    """Reports the progress of an attempt and raises when the job or the worker is to stop."""

    def __init__(self, attempt: Reportable, stop_requested: Callable[[], bool]) -> None:
        self.attempt = attempt
        self.stop_requested = stop_requested
        self._shown_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last report is at least `REPORT_EVERY_S` ago."""
        return time.monotonic() - self._shown_at >= REPORT_EVERY_S

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last report, without `STAGE_PERCENT`."""
        return {name: x for name, x in self.attempt.record.metrics.items() if name != STAGE_PERCENT}

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Report, then raise if the job is to stop.

        Raises:
            JobCancelled: a client has cancelled the job.
            JobInterrupted: the worker is shutting down.
        """
        self._shown_at = time.monotonic()
        self.attempt.report(stage, progress, metrics)
        if self.attempt.cancel_requested():
            raise JobCancelled
        if self.stop_requested():
            raise JobInterrupted

    def run(self, stage: str, steps: Steps[Result]) -> Result:
        """Run steps that yield the fraction done, report that fraction, and return their result.

        Raises:
            JobCancelled: a client has cancelled the job.
            JobInterrupted: the worker is shutting down.
        """
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            self._report_share(stage, done)

    def track(self, stage: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Yield the items and report which fraction of `total` has passed.

        Raises:
            JobCancelled: a client has cancelled the job.
            JobInterrupted: the worker is shutting down.
        """
        for count, item in enumerate(items, start=1):
            self._report_share(stage, count / total)
            yield item

    def _report_share(self, stage: str, done: float) -> None:
        if self.is_due:
            metrics = self.metrics | {STAGE_PERCENT: round(100 * done, 1)}
            self.report(stage, self.attempt.record.progress, metrics)
