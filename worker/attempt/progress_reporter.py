"""Progress reports of a job's long-running work; each report also checks for cancellation."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from models.progress import Steps
from worker.attempt.stage_plan import StagePlan
from worker.schemas.jobs import JobProgress, JobRecord

REPORT_EVERY_S = 1.0

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
    """Reports the progress of an attempt and raises when the job or the worker is to stop.

    Percent and ETA of the job follow from `plan`, except where `report` is given them.
    """

    def __init__(
        self,
        attempt: Reportable,
        stop_requested: Callable[[], bool],
        plan: StagePlan | None = None,
    ) -> None:
        self.attempt = attempt
        self.stop_requested = stop_requested
        self.plan = plan or StagePlan()
        self._shown_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last report is at least `REPORT_EVERY_S` ago."""
        return time.monotonic() - self._shown_at >= REPORT_EVERY_S

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last report."""
        return self.attempt.record.metrics

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

    def begin(self, stage: str, done: float = 0.0, *, step: int | None = None) -> None:
        """Begin a stage of the plan, partly `done`, and report it; raises as `report` does."""
        self.plan.begin(stage, done)
        self.show(done, step=step)

    def show(
        self,
        done: float,
        metrics: dict[str, float] | None = None,
        *,
        step: int | None = None,
        total: int | None = None,
    ) -> None:
        """Report which share of the plan's current stage is done; raises as `report` does.

        Metrics, step and total stay as they are where they are not given.
        """
        self.plan.advance(done)
        last, remaining_s = self.attempt.record.progress, self.plan.remaining_s
        progress = JobProgress(
            step=last.step if step is None else step,
            total=last.total if step is None else total,
            percent=max(last.percent, self.plan.percent),
            eta_s=round(remaining_s) if remaining_s < math.inf else None,
        )
        self.report(self.plan.current, progress, self.metrics if metrics is None else metrics)

    def run(self, stage: str, steps: Steps[Result]) -> Result:
        """Run a stage of steps that yield the fraction done; returns their result.

        Raises:
            JobCancelled: a client has cancelled the job.
            JobInterrupted: the worker is shutting down.
        """
        self.begin(stage)
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            if self.is_due:
                self.show(done)

    def track(self, stage: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Yield the items of a stage and report which fraction of `total` has passed.

        Raises:
            JobCancelled: a client has cancelled the job.
            JobInterrupted: the worker is shutting down.
        """
        self.begin(stage)
        for count, item in enumerate(items, start=1):
            if self.is_due:
                self.show(count / total)
            yield item
