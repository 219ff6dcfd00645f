"""The rungs of a search: who trains which candidate next, and what was found out.

An Optuna storage holds it all, a study for each rung and one for the final trainings. Its trials
are what processes agree by: each is created by exactly one of them, and their numbers say which
came first.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from models.evolution import Evolution
from models.optuna_space import encoded, suggest
from models.search_space import EVERYTHING, Point, decide
from models.trials import Goal, Trial, ranked

logger = logging.getLogger(__name__)

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it writes a line for every study and trial

Strategy = Literal["evolution", "tpe", "random"]

DEFAULT = "default"  # of the trial that is the hand-made one
CALLED = "called"  # of the final trainings' study: the whole list
MOST_RISING = 2  # times the one in `keep` that should; rankings change with what is found out
MOST_ASKED = 20  # candidates for each that may be trained; the others exceed the limits
NAMELESS_AFTER = timedelta(seconds=60)  # a trial whose process died before it could say who it is


@dataclass(frozen=True)
class Claim:
    """A training that one process has taken upon itself."""

    rung: int
    candidate: int
    point: Point
    seed: int
    asked: optuna.Trial


class Rungs:
    """One process's view of a search; `name` and `storage` are what its processes share."""

    def __init__(
        self, name: str, storage: BaseStorage, count: int, goal: Goal, strategy: Strategy, seed: int
    ) -> None:
        self.goal = goal
        self._seed = seed
        self._studies = [
            optuna.create_study(
                study_name=f"{name}/{rung}",
                storage=storage,
                sampler=_sampler(strategy, seed),
                directions=["minimize"] * len(goal.objectives),
                load_if_exists=True,
            )
            for rung in range(count + 1)
        ]
        self._finals = self._studies.pop()
        self._evolution = Evolution(goal, seed) if strategy == "evolution" else None

    def __len__(self) -> int:
        return len(self._studies)

    def trials(self, rung: int) -> list[Trial]:
        """What was found out on one rung, so far; above the highest are the final trainings."""
        study = self._all[rung]
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [Trial(**json.loads(found.user_attrs["trial"])) for found in done]

    def finals(self) -> list[Trial]:
        """The final trainings that are done."""
        return self.trials(len(self))

    def best(self) -> list[Trial]:
        """Candidates as far as they were trained, the best of the highest rung first."""
        seen: set[int] = set()
        order: list[Trial] = []
        for rung in reversed(range(len(self))):
            found = [t for t in self.trials(rung) if t.candidate not in seen]
            order += self._ranked(found)
            seen |= {trial.candidate for trial in found}
        return order

    def is_idle(self) -> bool:
        """Whether no process is in the middle of a training."""
        return not any(True for _ in self._running())

    def rise(self, owner: str, keep: int) -> Claim | None:
        """Take the best candidate that may go up, from as high as there is one.

        One in `keep` goes up, judged by what is known at that moment: a few more do so in the end,
        but never more than `MOST_RISING` times as many.
        """
        for rung in reversed(range(1, len(self))):
            for below in self._may_rise(rung - 1, keep):
                study = self._studies[rung]
                study.enqueue_trial({}, {"candidate": below.candidate})
                asked = study.ask()  # perhaps what another process put there
                asked.set_user_attr("owner", owner)
                candidate = asked.user_attrs["candidate"]
                rivals = [t for t in _taken(study) if t.user_attrs["candidate"] == candidate]
                if asked.number > min(trial.number for trial in rivals):
                    study.tell(asked, state=TrialState.FAIL)
                    continue
                points = {trial.candidate: trial.point for trial in self.trials(0)}
                return Claim(rung, candidate, points[candidate], self._seed, asked)
        return None

    def begin(self, owner: str, first: Point, max_trials: int) -> Claim | None:
        """Take a new candidate, `first` before all others; None where enough were trained."""
        study = self._studies[0]
        known = study.get_trials(deepcopy=False)
        if len(_trained(study)) >= max_trials or len(known) >= MOST_ASKED * max_trials:
            return None
        if not known:
            study.enqueue_trial(encoded(first), {DEFAULT: True}, skip_if_exists=True)
        elif self._evolution and TrialState.WAITING not in {t.state for t in known}:
            varied = self._evolution.vary(self.best(), first, len(known), len(self) - 1)
            study.enqueue_trial(encoded(varied, self.goal.space))
        asked = study.ask()
        asked.set_user_attr("owner", owner)
        before = [trial for trial in _trained(study) if trial.number < asked.number]
        if len(before) >= max_trials:  # another process was faster
            study.tell(asked, state=TrialState.FAIL)
            return None
        # The default may stand outside of the space.
        space = EVERYTHING if DEFAULT in asked.user_attrs else self.goal.space
        point = decide(lambda name, values: suggest(asked, name, values), space)
        return Claim(0, asked.number, point, self._seed, asked)

    def call(self, finalists: Sequence[Trial], seeds: Sequence[int]) -> None:
        """Have finalists trained once more, to the end, with each of the seeds. Twice is once.

        What a process that died in the middle of this has left out is made up for.
        """
        if not self.are_called():
            called = [
                {"candidate": trial.candidate, "point": trial.point, "seed": seed}
                for seed in seeds
                for trial in finalists
            ]
            self._finals.set_user_attr(CALLED, called)
        known = [trial.user_attrs for trial in self._finals.get_trials(deepcopy=False)]
        for what in self._finals.user_attrs[CALLED]:
            if not any(what.items() <= each.items() for each in known):
                self._finals.enqueue_trial({}, what)

    def are_called(self) -> bool:
        """Whether the search has given way to the final trainings."""
        return CALLED in self._finals.user_attrs

    def finish(self, owner: str) -> Claim | None:
        """Take one of the final trainings; None where none is left."""
        if not self._finals.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        asked = self._finals.ask()
        asked.set_user_attr("owner", owner)
        what = asked.user_attrs
        if "candidate" not in what:  # others have taken all that there were
            self._finals.tell(asked, state=TrialState.FAIL)
            return None
        return Claim(len(self), what["candidate"], what["point"], what["seed"], asked)

    def tell(self, claim: Claim, trial: Trial) -> None:
        """Record what came of a claim, unless it was taken for dead and released."""
        try:
            claim.asked.set_user_attr("trial", json.dumps(asdict(trial)))
            claim.asked.set_user_attr("trained", trial.is_trained)
            for name, part in self.goal.excess(trial).items():
                claim.asked.set_constraint(name, part)
            self._all[claim.rung].tell(claim.asked, self.goal.values(trial))
        except UpdateFinishedTrialError:
            logger.warning("candidate %d had been given to another process", claim.candidate)

    def release(self, is_alive: Callable[[str], bool]) -> None:
        """Give up what processes had taken that died since; `is_alive` knows by their names."""
        for study, lost in self._running():
            owner = lost.user_attrs.get("owner")
            if not (_is_old(lost) if owner is None else not is_alive(owner)):
                continue
            if study is self._studies[0]:
                chosen = lost.system_attrs.get("fixed_params", {}) | lost.params
                kept = {name: x for name, x in lost.user_attrs.items() if name == DEFAULT}
                study.enqueue_trial(chosen, kept)
            elif study is self._finals and "candidate" in lost.user_attrs:
                what = {name: lost.user_attrs[name] for name in ("candidate", "point", "seed")}
                study.enqueue_trial({}, what)
            study.tell(lost.number, state=TrialState.FAIL)

    @property
    def _all(self) -> list[Study]:
        return [*self._studies, self._finals]

    def _running(self) -> Iterator[tuple[Study, FrozenTrial]]:
        for study in self._all:
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                yield study, trial

    def _may_rise(self, rung: int, keep: int) -> list[Trial]:
        """The best of a rung within the limits, one in `keep`, that nobody has taken further."""
        trials = [trial for trial in self.trials(rung) if trial.is_trained]
        places = len(trials) // keep
        best = self._ranked(trials)[:places]
        risen = {trial.user_attrs["candidate"] for trial in _taken(self._studies[rung + 1])}
        rising = [t for t in best if self.goal.holds(t) and t.candidate not in risen]
        return rising[: max(0, MOST_RISING * places - len(risen))]

    def _ranked(self, trials: list[Trial]) -> list[Trial]:
        """The trials of one rung, best first."""
        if self._evolution is None:
            return ranked(trials, self.goal)
        self._evolution.listen([t for rung in range(len(self)) for t in self.trials(rung)])
        return self._evolution.ranked(trials)


def _sampler(strategy: Strategy, seed: int) -> BaseSampler:
    if strategy == "tpe":
        # The liar gives trials that still run a poor value, so that processes try different things.
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed)


def _taken(study: Study) -> list[FrozenTrial]:
    """Trials that are trained or being trained, also by others."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE))


def _trained(study: Study) -> list[FrozenTrial]:
    """Those taken, but for what exceeded a limit and was not worth a training."""
    return [trial for trial in _taken(study) if trial.user_attrs.get("trained", True)]


def _is_old(trial: FrozenTrial) -> bool:
    started = trial.datetime_start
    return started is None or datetime.now(UTC) - started.astimezone(UTC) > NAMELESS_AFTER
