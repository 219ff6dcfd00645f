"""The rungs of a search: who trains which candidate next, and what was found out.

An Optuna storage holds it all, a study for each rung. Its trials are what processes agree by: each
is created by exactly one of them, and their numbers say which came first.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from models.search_space import SPACE, Choice, Point, decide
from models.trials import WORST, Limits, Trial, ranked

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it writes a line for every study and trial

Strategy = Literal["tpe", "random"]


@dataclass(frozen=True)
class Claim:
    """A training that one process has taken upon itself."""

    rung: int
    candidate: int
    point: Point
    asked: optuna.Trial


class Rungs:
    """One process's view of a search; `name` and `storage` are what its processes share."""

    def __init__(
        self, name: str, storage: BaseStorage, count: int, strategy: Strategy, seed: int
    ) -> None:
        self._studies = [
            optuna.create_study(
                study_name=f"{name}/{rung}",
                storage=storage,
                sampler=_sampler(strategy, seed),
                directions=["minimize"] * 3,
                load_if_exists=True,
            )
            for rung in range(count)
        ]

    def __len__(self) -> int:
        return len(self._studies)

    def trials(self, rung: int) -> list[Trial]:
        """What was found out on one rung, so far."""
        done = self._studies[rung].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [Trial(**json.loads(found.user_attrs["trial"])) for found in done]

    def best(self, limits: Limits) -> list[Trial]:
        """Candidates as far as they were trained, the best of the highest rung first."""
        seen: set[int] = set()
        order: list[Trial] = []
        for rung in reversed(range(len(self))):
            found = [t for t in self.trials(rung) if t.candidate not in seen]
            order += ranked(found, limits)
            seen |= {trial.candidate for trial in found}
        return order

    def rise(self, owner: str, keep: int, limits: Limits) -> Claim | None:
        """Take the best candidate that may go up, from as high as there is one.

        One in `keep` goes up, judged by what is known at that moment: a few more do so in the end.
        """
        for rung in reversed(range(1, len(self))):
            for below in self._may_rise(rung - 1, keep, limits):
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
                return Claim(rung, candidate, points[candidate], asked)
        return None

    def begin(self, owner: str, first: Point, max_trials: int) -> Claim | None:
        """Take a new candidate, `first` before all others; None where there are enough."""
        study = self._studies[0]
        if len(_taken(study)) >= max_trials:
            return None
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(_encoded(first), skip_if_exists=True)
        asked = study.ask()
        asked.set_user_attr("owner", owner)
        before = [trial for trial in _taken(study) if trial.number < asked.number]
        if len(before) >= max_trials:  # another process was faster
            study.tell(asked, state=TrialState.FAIL)
            return None
        point = decide(lambda name, values: _suggest(asked, name, values))
        return Claim(0, asked.number, point, asked)

    def tell(self, claim: Claim, trial: Trial, limits: Limits) -> None:
        """Record what came of a claim."""
        claim.asked.set_user_attr("trial", json.dumps(asdict(trial)))
        for name, part in limits.excess(trial).items():
            claim.asked.set_constraint(name, part)
        # What fails must not shine by being small or fast.
        values = [WORST] * 3 if trial.error else list(trial.objectives)
        self._studies[claim.rung].tell(claim.asked, values)

    def release(self, owner: str) -> None:
        """Give up what a process of this name had taken when it died."""
        for rung, study in enumerate(self._studies):
            for lost in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if lost.user_attrs.get("owner") == owner:
                    if rung == 0:
                        study.enqueue_trial(lost.params)
                    study.tell(lost.number, state=TrialState.FAIL)

    def _may_rise(self, rung: int, keep: int, limits: Limits) -> list[Trial]:
        """The best of a rung within the limits, one in `keep`, that nobody has taken further."""
        trials = self.trials(rung)
        best = ranked(trials, limits)[: len(trials) // keep]
        risen = {trial.user_attrs["candidate"] for trial in _taken(self._studies[rung + 1])}
        return [t for t in best if limits.hold(t) and t.candidate not in risen]


def _sampler(strategy: Strategy, seed: int) -> BaseSampler:
    if strategy == "random":
        return RandomSampler(seed)
    # The liar gives trials that still run a poor value, so that processes try different things.
    return TPESampler(seed=seed, constant_liar=True)


def _taken(study: Study) -> list[FrozenTrial]:
    """Trials that are trained or being trained, also by others."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE))


def _suggest(asked: optuna.Trial, name: str, values: tuple[Choice, ...]) -> Choice:
    """Optuna's choice: by place where the values are numbers, so that it knows neighbours."""
    key = _key(name, values)
    if _is_ordered(values):
        return values[asked.suggest_int(key, 0, len(values) - 1)]
    return values[values.index(asked.suggest_categorical(key, values))]


def _encoded(point: Point) -> dict[str, Choice]:
    """The point in the words of `_suggest`."""
    words: dict[str, Choice] = {}

    def choose(name: str, values: tuple[Choice, ...]) -> Choice:
        chosen = point[name]
        words[_key(name, values)] = values.index(chosen) if _is_ordered(values) else chosen
        return chosen

    decide(choose)
    return words


def _key(name: str, values: tuple[Choice, ...]) -> str:
    """Optuna wants the same values wherever a name returns."""
    return name if values == SPACE[name] else f"{name} of {', '.join(map(str, values))}"


def _is_ordered(values: tuple[Choice, ...]) -> bool:
    return not any(isinstance(value, bool | str) for value in values)
