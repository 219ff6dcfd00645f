"""Leading a search: train like everybody, look after the helpers, show the job, end it.

The winner is the finalist with the lowest mean KID, in features and against photos that the search
has not used; the default is always a finalist.
"""

import math
import time
from collections.abc import Callable, Iterator

from models.card import Json
from models.extractor import digest
from models.finals import Finalist, FinalTraining, choose_finalists, rank_finalists
from models.search import SearchProgress
from models.search_space import build, describe
from models.train import Diverged
from models.trials import Trial
from worker import architectures
from worker.artifacts import JobFiles
from worker.claims import Claim
from worker.generating import make_files, order_of
from worker.jobs import JobProgress
from worker.pareto import plot, table
from worker.registering import Trained, register
from worker.requests import GenerateJob
from worker.shared_search import JOURNAL, WAIT_S, SharedSearch

LOOK_AFTER_S = 5.0  # helpers, and what the dead ones left
SEARCHED, RETRAINED = 50.0, 95.0  # percent of the job


class LimitsNotMet(RuntimeError):
    """No candidate keeps to the limits; the message says how near they came."""


class Lead:
    """The owner's work: it trains like everybody, looks after the helpers, and shows the job."""

    def __init__(self, shared: SharedSearch, claim: Claim) -> None:
        self.shared = shared
        self.claim = claim
        self._looked_at = -math.inf
        self._published = -1  # trainings that the files tell of
        self._metrics: dict[str, float] = {}

    def search(self) -> None:
        """Until candidates or time run out; what is in training elsewhere is waited for."""
        shared = self.shared
        if not shared.rungs.are_called():
            self._all_of("searching", shared.candidates, shared.seconds_left)
            self._publish()
            finalists = choose_finalists(shared.rungs, shared.start, shared.job.finalists)
            self._check_limits(shared.rungs.best())
            first = shared.job.seed
            shared.rungs.call(finalists, range(first, first + shared.job.final_seeds))
        else:
            shared.rungs.call([], [])  # whoever called them may have died over it

    def retrain(self) -> None:
        """Until all final trainings are done."""
        self._all_of("retraining", self.shared.finals, lambda: math.inf)
        self._publish()

    def register(self) -> dict[str, Json]:
        """Make the best finalist a model version; the job's result."""
        shared, storage = self.shared, self.shared.jobs.ledger.storage
        finalists = rank_finalists(shared.rungs.finals(), shared.rungs.goal)
        winner = finalists[0]
        if winner.typical.error is not None:
            raise Diverged(f"no finalist could be trained: {winner.typical.error}")
        self._check_limits([finalist.typical for finalist in finalists])
        training = FinalTraining.finished(winner.best, shared.states)
        architecture = build(winner.best.point, shared.start)
        architectures.keep(self.claim, architecture)
        artifacts = JobFiles(storage, shared.job_id)
        report = self._report(finalists)
        trained = Trained(
            state=training.state,
            lines=training.lines,
            dataset=shared.dataset,
            judge=shared.judge,
            search={**report, "architecture": describe(architecture)},
            files={name: artifacts.read(name) for name in ("trials.json", "pareto.png")},
        )
        version = register(self.claim, shared.watch, trained)
        result: dict[str, Json] = {
            "model": version.name,
            "version": version.version,
            "alias": shared.job.promote,
            **{name: report[name] for name in ("trials", "kid", "default_kid", "is_default")},
            "latency_ms": winner.typical.latency_ms,
            "parameters": winner.typical.parameters,
        }
        if shared.job.generate is not None:
            wanted = GenerateJob(**shared.job.generate.model_dump())
            made = make_files(self.claim, version, order_of(wanted, version))
            shared.watch.drive("generating", made)
            result["generated"] = wanted.images
        return result

    def _all_of(
        self,
        stage: str,
        trainings: Callable[[], Iterator[SearchProgress]],
        seconds_left: Callable[[], float],
    ) -> None:
        """Train what there is, and wait for what others train as long as there is time."""
        while True:
            self._attend(stage)
            busy = False
            for progress in trainings():
                busy = True
                if self.shared.watch.is_due:
                    self._attend(stage, progress.fraction)
            if not busy and (self.shared.rungs.is_idle() or seconds_left() <= 0):
                return
            if not busy:
                time.sleep(WAIT_S)

    def _attend(self, stage: str, fraction: float = 0.0) -> None:
        """Report and obey; now and then look after helpers, and show what was found out."""
        shared = self.shared
        if time.monotonic() - self._looked_at >= LOOK_AFTER_S:
            shared.rungs.release(shared.is_alive)
            shared.jobs.invite(shared.job_id, shared.job.parallel_trials - 1)
            self._publish()
            self._looked_at = time.monotonic()
        shared.watch.show(stage, self._progress(fraction), self._metrics)

    def _publish(self) -> None:
        """The table and the picture of all trainings, where there are new ones."""
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
            self.claim.store(name, data)
        shared.states[JOURNAL] = shared.journal.dump()

    def _progress(self, fraction: float) -> JobProgress:
        """By the time of the search, then by the final trainings."""
        budget, job = self.shared.budget, self.shared.job
        done = max(self._published, 0)
        if not self.shared.rungs.are_called():
            left = self.shared.seconds_left()
            percent = SEARCHED * (1 - left / budget.search_seconds)
            eta_s = left + job.max_seconds - budget.search_seconds
        else:
            total = (job.finalists + 1) * job.final_seeds
            finished = min(len(self.shared.rungs.finals()) + fraction, total)
            percent = SEARCHED + (RETRAINED - SEARCHED) * finished / total
            eta_s = budget.final_seconds * (total - finished) / budget.processes
        return JobProgress(step=done, percent=round(percent, 2), eta_s=round(eta_s))

    def _measured(self) -> dict[str, float]:
        """The best so far, and the default beside it."""
        shared = self.shared
        known = shared.rungs.best()
        best = [trial for trial in known if shared.rungs.goal.holds(trial)]
        metrics = {"trials": float(self._trained())}
        if best:
            metrics |= {
                "best_kid": best[0].kid,
                "best_latency_ms": best[0].latency_ms,
                "best_parameters": float(best[0].parameters),
            }
        default = [trial for trial in known if trial.point == shared.start.point()]
        if default and default[0].is_trained and default[0].error is None:
            metrics["default_kid"] = default[0].kid
        return metrics

    def _trained(self) -> int:
        """Candidates that were worth a training."""
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

    def _report(self, finalists: list[Finalist]) -> dict[str, Json]:
        """What the card tells of the search."""
        shared, default = self.shared, self.shared.start.point()
        by_default = next((f for f in finalists if f.trials[0].point == default), None)
        kid = finalists[0].kid
        return {
            "job": shared.job_id,
            "strategy": shared.job.strategy,
            "objectives": list(shared.rungs.goal.objectives),
            "limits": {str(name): limit for name, limit in shared.rungs.goal.limits.items()},
            "trials": self._trained(),
            "too_large": len(shared.rungs.trials(0)) - self._trained(),
            "seconds": round(sum(trial.seconds for trial in shared.rungs.best()), 1),
            "rungs": list(shared.budget.rungs),
            "final_images": shared.budget.final_images,
            "extractor_sha256": digest(shared.photos.extractor),
            "chosen_by": "mean kid_cnn of the final trainings against the held-out photos",
            "kid": kid,
            "default_kid": None if by_default is None else by_default.kid,
            "is_default": finalists[0] is by_default,
            "finalists": [
                {
                    "candidate": finalist.typical.candidate,
                    "is_default": finalist is by_default,
                    "kid": [trial.kid for trial in finalist.trials],
                    "latency_ms": round(finalist.typical.latency_ms, 3),
                    "parameters": finalist.typical.parameters,
                    "images": finalist.typical.images,
                }
                for finalist in finalists
            ],
        }
