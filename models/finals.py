"""The end of a search: its best candidates and the default, trained once more on all photos.

Finalists are trained from the beginning for the same time, with each of several seeds, and are
judged by photos and an extractor that the search has not used. The shared `Rungs` deal the
trainings out, so that any number of processes take part.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from models import training_log
from models.checkpoint import load_state, save_state
from models.evaluation import Photos
from models.pace import pace
from models.rungs import Claim, Rungs
from models.search import TRAINING_SHARE, UNTRAINABLE, SearchProgress, measured, reported
from models.search_space import Architecture, build
from models.state import TrainState, initial_state
from models.steps import Steps, scaled
from models.train import train
from models.trials import Goal, Trial

NOT_TRIED = -1  # in place of the number of a default that the search had no time for
LOG_EVERY = 20  # steps


@dataclass(frozen=True, kw_only=True)
class FinalConfig:
    """How long each final training is."""

    images: int  # that the default sees; the others train for as long as it
    checkpoint_every_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One candidate over all its final trainings."""

    trials: tuple[Trial, ...]  # one for each seed

    @property
    def kid(self) -> float:
        """The mean over the seeds."""
        return mean(trial.kid for trial in self.trials)

    @property
    def typical(self) -> Trial:
        """As one trial: the mean KID, the median latency."""
        latency_ms = median(trial.latency_ms for trial in self.trials)
        error = next((trial.error for trial in self.trials if trial.error), None)
        return replace(self.trials[0], kid=self.kid, latency_ms=latency_ms, error=error)

    @property
    def best(self) -> Trial:
        """The training that came out best."""
        return min(self.trials, key=lambda trial: trial.kid)


def default_trial(start: Architecture) -> Trial:
    """The default where nothing has been found out about it."""
    return Trial(
        candidate=NOT_TRIED, rung=0, point=start.point(), images=0, seconds=0.0, kid=0.0,
        latency_ms=0.0, parameters=0,
    )  # fmt: skip


def choose_finalists(rungs: Rungs, start: Architecture, count: int) -> list[Trial]:
    """The default, and the `count` best of the others that keep to the limits."""
    point, known = start.point(), rungs.best()
    default = next((trial for trial in known if trial.point == point), default_trial(start))
    others = [trial for trial in known if trial.point != point and rungs.goal.holds(trial)]
    return [default, *others[:count]]


def train_finalists(
    rungs: Rungs,
    states: MutableMapping[str, bytes],
    start: Architecture,
    photos: Photos,
    config: FinalConfig,
    owner: str,
) -> Iterator[SearchProgress]:
    """Take final trainings until none is left for this process, yielding after each step.

    Each is kept in `states` every `checkpoint_every_s` seconds and goes on from there.
    """
    while (claim := rungs.finish(owner)) is not None:
        training = FinalTraining.of(claim, states, start)
        trial = yield from reported(claim, training.run(claim, start, photos, config))
        rungs.tell(claim, trial)
        yield SearchProgress(claim, 1.0, trial)


class FinalTraining:
    """One final training: its state, and what was reported on the way."""

    def __init__(
        self, claim: Claim | Trial, states: MutableMapping[str, bytes], state: TrainState
    ) -> None:
        self.state = state
        self._states = states
        self._key = f"final-{claim.candidate}-{claim.seed}"
        log = states.get(f"{self._key}.jsonl", b"")
        self.lines = training_log.parse(log, state.step)

    @classmethod
    def of(
        cls,
        claim: Claim,
        states: MutableMapping[str, bytes],
        start: Architecture,
    ) -> "FinalTraining":
        """As far as it was saved, or from its seed."""
        saved = states.get(f"final-{claim.candidate}-{claim.seed}")
        if saved is not None:
            return cls(claim, states, load_state(saved))
        architecture = build(claim.point, start)
        recipe = replace(architecture.recipe, seed=claim.seed)
        return cls(claim, states, initial_state(architecture.gan, recipe))

    @classmethod
    def finished(cls, trial: Trial, states: MutableMapping[str, bytes]) -> "FinalTraining":
        """One that is done."""
        state = load_state(states[f"final-{trial.candidate}-{trial.seed}"])
        return cls(trial, states, state)

    def run(
        self, claim: Claim, start: Architecture, photos: Photos, config: FinalConfig
    ) -> Steps[Trial]:
        """Train to the end and measure, saving on the way, at the end, and when stopped."""
        saved_at = self.state.seconds
        try:
            if self.state.step == 0:
                length = config.images
                yield from scaled(pace(self.state, start, photos.training, length, length), 0, 0)
            for progress in train(self.state, photos.training):
                if progress.step % LOG_EVERY == 0:
                    place = {"step": progress.step, "seconds": progress.seconds}
                    self.lines.append(place | {"images": progress.images} | progress.metrics())
                if progress.seconds - saved_at >= config.checkpoint_every_s:
                    saved_at = progress.seconds
                    self.save()
                yield TRAINING_SHARE * progress.fraction
        except UNTRAINABLE as error:
            return (yield from measured(claim, self.state, photos, str(error)))
        finally:
            self.save()
        return (yield from scaled(measured(claim, self.state, photos), TRAINING_SHARE))

    def save(self) -> None:
        """Keep what another process needs to go on; never a state that is not finite."""
        if self.state.is_finite():
            self._states[f"{self._key}.jsonl"] = training_log.dump(self.lines)
            self._states[self._key] = save_state(self.state)


def rank_finalists(trials: Sequence[Trial], goal: Goal) -> list[Finalist]:
    """The finalists whose trainings are all done, those that keep to the limits first, by KID."""
    numbers = sorted({trial.candidate for trial in trials})
    finalists = [Finalist(trials=tuple(t for t in trials if t.candidate == n)) for n in numbers]
    return sorted(finalists, key=lambda each: (not goal.holds(each.typical), each.kid))
