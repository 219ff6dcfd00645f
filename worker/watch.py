"""Long work of a job between two signs of life: it shows how far it is, and obeys."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from models.steps import Steps
from worker.jobs import JobProgress, JobRecord

REPORT_EVERY_S = 1.0
SHARE = "stage_percent"  # done of a stage, beside the metrics of the training

Item = TypeVar("Item")
Result = TypeVar("Result")


class JobCancelled(Exception):
    """A client has asked the job to stop."""


class JobInterrupted(Exception):
    """The worker is to end; the job goes on in another one."""


class Hold(Protocol):
    """An attempt's hold on its job, or a helper's place at it."""

    record: JobRecord
    reported_at: float  # by `time.monotonic`; or when it began

    def report(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Show where it stands, and that it lives."""

    def cancel_requested(self) -> bool:
        """Whether it is to stop."""


class Watch:
    """One attempt's reports, and its ear for whoever wants it to stop."""

    def __init__(self, claim: Hold, stop_requested: Callable[[], bool]) -> None:
        self.claim = claim
        self.stop_requested = stop_requested
        self._shown_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the last report is a while ago."""
        return time.monotonic() - self._shown_at >= REPORT_EVERY_S

    @property
    def metrics(self) -> dict[str, float]:
        """The last ones reported, without the share of a stage that has passed."""
        return {name: x for name, x in self.claim.record.metrics.items() if name != SHARE}

    def show(self, stage: str, progress: JobProgress, metrics: dict[str, float]) -> None:
        """Report, then stop if somebody wants it.

        Raises:
            JobCancelled: a client asked for it.
            JobInterrupted: the worker is to end.
        """
        self._shown_at = time.monotonic()
        self.claim.report(stage, progress, metrics)
        if self.claim.cancel_requested():
            raise JobCancelled
        if self.stop_requested():
            raise JobInterrupted

    def drive(self, stage: str, steps: Steps[Result]) -> Result:
        """The result of steps that yield the done share, showing that beside what is known.

        Raises:
            JobCancelled: a client asked for it.
            JobInterrupted: the worker is to end.
        """
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            self._share(stage, done)

    def during(self, stage: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """The items, showing which share of `total` has passed.

        Raises:
            JobCancelled: a client asked for it.
            JobInterrupted: the worker is to end.
        """
        for count, item in enumerate(items, start=1):
            self._share(stage, count / total)
            yield item

    def _share(self, stage: str, done: float) -> None:
        if self.is_due:
            metrics = self.metrics | {SHARE: round(100 * done, 1)}
            self.show(stage, self.claim.record.progress, metrics)
