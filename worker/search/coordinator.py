"""Search coordinator: the process that owns a nas job trains, manages helpers and ends the job.

The winner is the finalist with the highest mean score by the whole panel, with photos and networks
that the search has not used; the default is always a finalist.
"""

import math
import time
from collections.abc import Callable, Iterator

from models.card import Json
from models.search.final_training import (
    Finalist,
    FinalTraining,
    choose_finalists,
    rank_finalists,
)
from models.search.search import SearchProgress
from models.search.search_space import build, describe_architecture
from models.search.trials import Trial
from models.training.train import Diverged
from worker.attempt.attempt import Attempt
from worker.generation.bulk_generation import bulk_request_of, make_files
from worker.ledger.artifacts import JobFiles
from worker.schemas.requests import GenerateJob
from worker.search.pareto import plot, table
from worker.search.shared_search import JOURNAL, WAIT_S, SharedSearch
from worker.training import architectures
from worker.training.registration import Trained, register
from worker.training.stages import GENERATING, RETRAINING, SEARCHING

IN_RESULT = (
    *("trials", "score_report", "default_score_report", "kid_report", "default_kid_report"),
    "is_default",
)  # of the card's `search`
LOOK_AFTER_S = 5.0  # between two checks for missing helpers and trainings of dead ones


class LimitsNotMet(RuntimeError):
    """No candidate keeps within the limits; the message has the nearest one's values."""


class SearchCoordinator:
    """The job owner's part: trains like a helper, invites helpers, and publishes the progress."""

    def __init__(self, shared: SharedSearch, attempt: Attempt) -> None:
        self.shared = shared
        self.attempt = attempt
        self._looked_at = -math.inf
        self._published = -1  # number of trainings in the published files
        self._metrics: dict[str, float] = {}

    def search(self) -> None:
        """Train until candidates or time run out, then schedule the final trainings."""
        shared = self.shared
        if not shared.rungs.finals_scheduled():
            self._all_of(SEARCHING, shared.candidates, shared.seconds_left)
            self._publish()
            finalists = choose_finalists(shared.rungs, shared.start, shared.job.finalists)
            self._check_limits(shared.rungs.best())
            first = shared.job.seed
            shared.plan_finals(len(finalists) * shared.job.final_seeds)
            shared.rungs.schedule_finals(finalists, range(first, first + shared.job.final_seeds))
        else:
            shared.rungs.schedule_finals([], [])  # completes a list that a dead process began

    def retrain(self) -> None:
        """Train until all final trainings are done or, with one at least, time runs out."""
        shared = self.shared

        def seconds_left() -> float:
            return shared.final_seconds_left() if shared.rungs.finals() else math.inf

        self._all_of(RETRAINING, shared.finals, seconds_left)
        self._publish()
        self._report()  # what the result is chosen by

    def register(self) -> dict[str, Json]:
        """Register the best finalist as a model version; returns the job's result."""
        shared, storage = self.shared, self.shared.jobs.ledger.storage
        finalists = rank_finalists(shared.rungs.finals(), shared.rungs.goal)
        winner = finalists[0]
        if winner.typical.error is not None:
            raise Diverged(f"no finalist could be trained: {winner.typical.error}")
        self._check_limits([finalist.typical for finalist in finalists])
        training = FinalTraining.finished(winner.best, shared.states)
        architecture = build(winner.best.point, shared.start)
        architectures.store_architecture(self.attempt, architecture)
        artifacts = JobFiles(storage, shared.job_id)
        report = self._card_entry(finalists)
        trained = Trained(
            state=training.state,
            lines=training.lines,
            dataset=shared.dataset,
            judge=shared.panel,
            classifier=shared.classifier.run(shared.reporter),
            search={**report, "architecture": describe_architecture(architecture)},
            files={name: artifacts.read(name) for name in ("trials.json", "pareto.png")},
        )
        registered = register(self.attempt, shared.reporter, trained)
        result: dict[str, Json] = {
            **registered.result,
            **{name: report[name] for name in IN_RESULT},
            "latency_ms": winner.typical.latency_ms,
            "parameters": winner.typical.parameters,
        }
        if shared.job.generate is not None:
            wanted = GenerateJob(**shared.job.generate.model_dump())
            version = registered.version
            made = make_files(self.attempt, version, bulk_request_of(wanted, version))
            shared.reporter.run(GENERATING, made)
            result["generated"] = wanted.images
        return result

    def _all_of(
        self,
        stage: str,
        trainings: Callable[[], Iterator[SearchProgress]],
        seconds_left: Callable[[], float],
    ) -> None:
        """Train until nothing is left and, while time lasts, wait for trainings elsewhere."""
        self.shared.reporter.begin(stage, self._done(0.0))
        while True:
            self._report()
            busy = False
            for progress in trainings():
                busy = True
                if self.shared.reporter.is_due:
                    self._report(progress.fraction)
            if not busy and (self.shared.rungs.is_idle() or seconds_left() <= 0):
                return
            if not busy:
                time.sleep(WAIT_S)

    def _report(self, fraction: float = 0.0) -> None:
        """Report; every `LOOK_AFTER_S`, also replace dead helpers and publish the results."""
        shared = self.shared
        if time.monotonic() - self._looked_at >= LOOK_AFTER_S:
            shared.rungs.release(shared.is_alive)
            shared.jobs.queue_helpers(shared.job_id, shared.job.parallel_trials - 1)
            self._publish()
            self._looked_at = time.monotonic()
        shared.reporter.show(self._done(fraction), self._metrics, step=max(self._published, 0))

    def _publish(self) -> None:
        """Store the table, the plot and the journal if trainings were added since the last call."""
        shared = self.shared
        trials = [t for rung in range(len(shared.rungs)) for t in shared.rungs.trials(rung)]
        finals = shared.rungs.finals()
        if len(trials) + len(finals) == self._published:
            return
        self._published = len(trials) + len(finals)
        self._metrics = self._measured()
        goal, default = shared.rungs.goal, shared.start.point()
        files = {
            "trials.json": table(trials, finals, goal),
            "pareto.png": plot(trials, default, goal),
        }
        for name, data in files.items():
            self.attempt.store(name, data)
        shared.states[JOURNAL] = shared.journal.dump()

    def _done(self, fraction: float) -> float:
        """The done share of the search, by its time, or of the final trainings, by their number."""
        rungs, budget = self.shared.rungs, self.shared.budget
        if not rungs.finals_scheduled():
            return 1 - self.shared.seconds_left() / budget.search_seconds
        return min(1.0, (len(rungs.finals()) + fraction) / self.shared.final_length.trainings)

    def _measured(self) -> dict[str, float]:
        """Metrics of the job: the best candidate within the limits, and the default's KID.

        KIDs against the search's own photos and against those of the report have different scales,
        and so different names.
        """
        shared = self.shared
        known = shared.rungs.best()
        best = [trial for trial in known if shared.rungs.goal.holds(trial)]
        metrics = {"trials": float(self._trained())}
        if best:
            metrics |= {
                "best_kid_search": best[0].kid,
                "best_latency_ms": best[0].latency_ms,
                "best_parameters": float(best[0].parameters),
            }
        default = [trial for trial in known if trial.point == shared.start.point()]
        if default and default[0].is_trained and default[0].error is None:
            metrics["default_kid_search"] = default[0].kid
        finalists = rank_finalists(shared.rungs.finals(), shared.rungs.goal)
        for finalist in reversed(finalists):
            if finalist.typical.error is None:
                metrics["best_score_report"] = finalist.score
                metrics["best_kid_report"] = finalist.kid
        if (default_finalist := self._default(finalists)) is not None:
            metrics["default_score_report"] = default_finalist.score
            metrics["default_kid_report"] = default_finalist.kid
        return metrics

    def _default(self, finalists: list[Finalist]) -> Finalist | None:
        """The default's final trainings; None where it has none."""
        default = self.shared.start.point()
        return next((f for f in finalists if f.typical.point == default), None)

    def _trained(self) -> int:
        """Number of candidates that were trained; the others exceed a limit."""
        return sum(trial.is_trained for trial in self.shared.rungs.trials(0))

    def _check_limits(self, trials: list[Trial]) -> None:
        goal = self.shared.rungs.goal
        built = [trial for trial in trials if trial.error is None]
        if not goal.limits or not built or any(goal.holds(trial) for trial in built):
            return
        nearest = min(built, key=lambda trial: max(goal.excess(trial).values()))
        raise LimitsNotMet(
            f"no candidate keeps to {goal.limits}; the nearest has latency_ms"
            f" {nearest.latency_ms:.2f} and parameters {nearest.parameters}: raise the limits, or"
            " search for longer"
        )

    def _card_entry(self, finalists: list[Finalist]) -> dict[str, Json]:
        """The `search` field of the model card."""
        shared, default = self.shared, self.shared.start.point()
        length, default_finalist = shared.final_length, self._default(finalists)
        return {
            "job": shared.job_id,
            "strategy": shared.job.strategy,
            "objectives": list(shared.rungs.goal.objectives),
            "limits": {str(name): limit for name, limit in shared.rungs.goal.limits.items()},
            "trials": self._trained(),
            "too_large": len(shared.rungs.trials(0)) - self._trained(),
            "seconds": round(sum(trial.seconds for trial in shared.rungs.best()), 1),
            "rungs": list(shared.budget.rungs),
            "final_images": length.images,
            "final_seconds": round(length.seconds, 1),
            "searched_by": shared.photos.extractor.identity,
            "searched_photos": len(shared.photos.held_out.labels),
            "chosen_by": "mean score by the panel of the final trainings",
            "score_report": finalists[0].score,
            "default_score_report": None if default_finalist is None else default_finalist.score,
            "kid_report": finalists[0].kid,
            "default_kid_report": None if default_finalist is None else default_finalist.kid,
            "is_default": finalists[0].typical.point == default,
            "finalists": [
                {
                    "candidate": finalist.typical.candidate,
                    "is_default": finalist.typical.point == default,
                    "score_report": [trial.score for trial in finalist.trials],
                    "kid_report": [trial.kid for trial in finalist.trials],
                    "latency_ms": round(finalist.typical.latency_ms, 3),
                    "parameters": finalist.typical.parameters,
                    "images": finalist.typical.images,
                }
                for finalist in finalists
            ],
        }
