"""Final training: a search's best candidates and the default, trained anew on all photos.

Finalists are trained from the beginning for the same time, with each of several seeds, and are
judged by the whole panel, with photos and networks that the search has not used. The shared
`SuccessiveHalving` assigns the trainings, so that any number of processes can take part.
"""

import math
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from models.checkpoint import load_state, save_state
from models.data.datasets import Dataset
from models.evaluation.panel_report import PanelJudge
from models.progress import Steps, scaled
from models.search.equal_time import equalise_time
from models.search.search import (
    TRAINING_SHARE,
    UNTRAINABLE,
    SearchProgress,
    unscored_trial,
    with_progress,
)
from models.search.search_space import Architecture, build
from models.search.successive_halving import SuccessiveHalving, TrainingTask
from models.search.trials import Goal, Trial
from models.training import training_log
from models.training.state import TrainState, initial_state
from models.training.train import train

NOT_TRIED = -1  # candidate number of a default that the search has not trained
LOG_EVERY = 20  # steps
SHORTEST_S = 0.01  # of a training, however little time there is


@dataclass(frozen=True, kw_only=True)
class FinalConfig:
    """How long each final training is."""

    images: int  # shown to the default; the others train for the same time
    max_seconds: float = math.inf  # of each training, at most
    seconds_left: float = math.inf  # after which no other training begins, unless none has ended
    checkpoint_every_s: float = 30.0


@dataclass(frozen=True)
class FinalPhotos:
    """What finalists are trained on and judged by."""

    training: Dataset
    judge: PanelJudge


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One candidate over all its final trainings."""

    trials: tuple[Trial, ...]  # one for each seed

    @property
    def score(self) -> float:
        """Mean score by the panel over the seeds; 0 for a training that has failed."""
        return mean(trial.score or 0.0 for trial in self.trials)

    @property
    def kid(self) -> float:
        """Mean KID over the seeds."""
        return mean(trial.kid for trial in self.trials)

    @property
    def typical(self) -> Trial:
        """As one trial: the mean score and KID, the median latency."""
        latency_ms = median(trial.latency_ms for trial in self.trials)
        error = next((trial.error for trial in self.trials if trial.error), None)
        first, kid, score = self.trials[0], self.kid, self.score
        return replace(first, kid=kid, score=score, latency_ms=latency_ms, error=error)

    @property
    def best(self) -> Trial:
        """The training with the highest score."""
        return max(self.trials, key=lambda trial: (trial.score or 0.0, -trial.kid))


def default_trial(start: Architecture) -> Trial:
    """A placeholder for a default that the search has not trained."""
    return Trial(
        candidate=NOT_TRIED, rung=0, point=start.point(), images=0, seconds=0.0, kid=0.0,
        latency_ms=0.0, parameters=0,
    )  # fmt: skip


def choose_finalists(rungs: SuccessiveHalving, start: Architecture, count: int) -> list[Trial]:
    """The default, and the `count` best other candidates within the limits."""
    point, known = start.point(), rungs.best()
    default = next((trial for trial in known if trial.point == point), default_trial(start))
    others = [trial for trial in known if trial.point != point and rungs.goal.holds(trial)]
    return [default, *others[:count]]


def train_finalists(
    rungs: SuccessiveHalving,
    states: MutableMapping[str, bytes],
    start: Architecture,
    photos: FinalPhotos,
    config: FinalConfig,
    owner: str,
) -> Iterator[SearchProgress]:
    """Run final trainings until none is left for this process, yielding after each step.

    Each is saved to `states` every `checkpoint_every_s` seconds and resumes from there.
    """
    until = time.monotonic() + config.seconds_left
    while (left := until - time.monotonic()) > 0 or not rungs.finals():
        task = rungs.take_final(owner)
        if task is None:
            return
        training = FinalTraining.of(task, states, start)
        limit = max(SHORTEST_S, min(config.max_seconds, training.state.seconds + left))
        limited = replace(config, max_seconds=limit)
        steps = training.run(task, start, photos, limited)
        trial = yield from with_progress(task, steps)
        assert trial is not None  # it has no deadline
        rungs.record(task, trial)
        yield SearchProgress(task, 1.0, trial)


class FinalTraining:
    """One final training: its state and its training log."""

    def __init__(
        self, task: TrainingTask | Trial, states: MutableMapping[str, bytes], state: TrainState
    ) -> None:
        self.state = state
        self._states = states
        self._key = f"final-{task.candidate}-{task.seed}"
        log = states.get(f"{self._key}.jsonl", b"")
        self.lines = training_log.parse(log, state.step)

    @classmethod
    def of(
        cls,
        task: TrainingTask,
        states: MutableMapping[str, bytes],
        start: Architecture,
    ) -> "FinalTraining":
        """Load the saved state, or start from the task's seed."""
        saved = states.get(f"final-{task.candidate}-{task.seed}")
        if saved is not None:
            return cls(task, states, load_state(saved))
        architecture = build(task.point, start)
        recipe = replace(architecture.recipe, seed=task.seed)
        return cls(task, states, initial_state(architecture.gan, recipe))

    @classmethod
    def finished(cls, trial: Trial, states: MutableMapping[str, bytes]) -> "FinalTraining":
        """Load a completed training."""
        state = load_state(states[f"final-{trial.candidate}-{trial.seed}"])
        return cls(trial, states, state)

    def run(
        self, task: TrainingTask, start: Architecture, photos: FinalPhotos, config: FinalConfig
    ) -> Steps[Trial]:
        """Train to the end and judge; saves periodically, at the end, and when stopped."""
        saved_at = self.state.seconds
        try:
            if self.state.step == 0:
                length = config.images
                equalising = equalise_time(self.state, start, photos.training, length, length)
                yield from scaled(equalising, 0, 0)
            self.state.config = replace(self.state.config, max_seconds=config.max_seconds)
            for progress in train(self.state, photos.training):
                if progress.step % LOG_EVERY == 0:
                    self.lines.append(training_log.line_of(progress) | progress.metrics())
                if progress.seconds - saved_at >= config.checkpoint_every_s:
                    saved_at = progress.seconds
                    self.save()
                yield TRAINING_SHARE * progress.fraction
        except UNTRAINABLE as error:
            return replace(unscored_trial(task, self.state), error=str(error))
        finally:
            self.save()
        report = yield from scaled(photos.judge.judge(self.state.ema), TRAINING_SHARE)
        trial = unscored_trial(task, self.state)
        return replace(trial, kid=photos.judge.kid(report), score=report.score)

    def save(self) -> None:
        """Save what another process needs to resume; does nothing if a weight is not finite."""
        if self.state.is_finite():
            self._states[f"{self._key}.jsonl"] = training_log.dump(self.lines)
            self._states[self._key] = save_state(self.state)


def rank_finalists(trials: Sequence[Trial], goal: Goal) -> list[Finalist]:
    """Group trials by candidate; those within the limits come first, then by mean score."""
    numbers = sorted({trial.candidate for trial in trials})
    finalists = [Finalist(trials=tuple(t for t in trials if t.candidate == n)) for n in numbers]
    return sorted(finalists, key=lambda each: (not goal.holds(each.typical), -each.score, each.kid))
