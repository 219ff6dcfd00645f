"""Asynchronous successive halving: assigns a search's trainings and stores their results.

All state is in an Optuna storage, with a study for each rung and one for the final trainings.
Processes coordinate through its trials: each trial is created by exactly one process, and trial
numbers give the order of creation.
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

from models.search.evolution import Evolution
from models.search.optuna_space import encoded, suggest
from models.search.search_space import EVERYTHING, Point, decide
from models.search.trials import Goal, Trial, ranked

logger = logging.getLogger(__name__)

optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it logs every study and trial

Strategy = Literal["evolution", "tpe", "random"]

DEFAULT = "default"  # user attribute of the hand-made default's trial
SCHEDULED = "scheduled"  # user attribute of the final trainings' study: the whole list
MAX_PROMOTED = 2  # times one in `keep` candidates, since rankings change as results arrive
MAX_PROPOSED_PER_TRIAL = 20  # candidates proposed for each to be trained; the others exceed a limit
OWNERLESS_TIMEOUT = timedelta(seconds=60)  # after this, a trial without owner is a dead process's


@dataclass(frozen=True)
class TrainingTask:
    """A training that is assigned to one process."""

    rung: int
    candidate: int
    point: Point
    seed: int
    optuna_trial: optuna.Trial

    def drop(self) -> None:
        """Give the training up, for this process and all others."""
        trial = self.optuna_trial
        trial.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


class SuccessiveHalving:
    """One process's view of a search; all its processes share `name` and `storage`."""

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
        """Completed trials of one rung; the index `len(self)` stands for the final trainings."""
        done = self._all[rung].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [Trial(**json.loads(found.user_attrs["trial"])) for found in done]

    def finals(self) -> list[Trial]:
        """Completed trials of the final trainings."""
        return self.trials(len(self))

    def best(self) -> list[Trial]:
        """Each candidate's trial on its highest rung, the best of the highest rung first."""
        seen: set[int] = set()
        order: list[Trial] = []
        for rung in reversed(range(len(self))):
            found = [t for t in self.trials(rung) if t.candidate not in seen]
            order += self._ranked(found)
            seen |= {trial.candidate for trial in found}
        return order

    def is_idle(self) -> bool:
        """Whether no process is running a training."""
        return not any(True for _ in self._running())

    def promote(self, owner: str, keep: int) -> TrainingTask | None:
        """Take the best candidate that can be promoted, from the highest rung that has one.

        One in `keep` is promoted, by the ranking at that moment. As rankings change, more are
        promoted in the end, but at most `MAX_PROMOTED` times as many.
        """
        for rung in reversed(range(1, len(self))):
            for below in self._promotable(rung - 1, keep):
                study = self._studies[rung]
                study.enqueue_trial({}, {"candidate": below.candidate})
                asked = study.ask()  # may return a trial that another process enqueued
                asked.set_user_attr("owner", owner)
                candidate = asked.user_attrs["candidate"]
                rivals = [t for t in _taken(study) if t.user_attrs["candidate"] == candidate]
                if asked.number > min(trial.number for trial in rivals):
                    study.tell(asked, state=TrialState.FAIL)
                    continue
                points = {trial.candidate: trial.point for trial in self.trials(0)}
                return TrainingTask(rung, candidate, points[candidate], self._seed, asked)
        return None

    def propose(self, owner: str, first: Point, max_trials: int) -> TrainingTask | None:
        """Take a new candidate, `first` before all others; None once enough were trained."""
        study = self._studies[0]
        known = study.get_trials(deepcopy=False)
        if len(_trained(study)) >= max_trials or len(known) >= MAX_PROPOSED_PER_TRIAL * max_trials:
            return None
        if not known:
            study.enqueue_trial(encoded(first), {DEFAULT: True}, skip_if_exists=True)
        elif self._evolution and TrialState.WAITING not in {t.state for t in known}:
            proposed = self._evolution.propose(self.best(), first, len(known), len(self) - 1)
            study.enqueue_trial(encoded(proposed, self.goal.space))
        asked = study.ask()
        asked.set_user_attr("owner", owner)
        before = [trial for trial in _trained(study) if trial.number < asked.number]
        if len(before) >= max_trials:  # another process was faster
            study.tell(asked, state=TrialState.FAIL)
            return None
        # The default may lie outside the narrowed space.
        space = EVERYTHING if DEFAULT in asked.user_attrs else self.goal.space
        point = decide(lambda name, values: suggest(asked, name, values), space)
        return TrainingTask(0, asked.number, point, self._seed, asked)

    def schedule_finals(self, finalists: Sequence[Trial], seeds: Sequence[int]) -> None:
        """Enqueue the final trainings: each finalist with each of the seeds.

        Calling it again enqueues only what is missing, for example after a process died in it.
        """
        if not self.finals_scheduled():
            scheduled = [
                {"candidate": trial.candidate, "point": trial.point, "seed": seed}
                for seed in seeds
                for trial in finalists
            ]
            self._finals.set_user_attr(SCHEDULED, scheduled)
        known = [trial.user_attrs for trial in self._finals.get_trials(deepcopy=False)]
        for what in self._finals.user_attrs[SCHEDULED]:
            if not any(what.items() <= each.items() for each in known):
                self._finals.enqueue_trial({}, what)

    def finals_scheduled(self) -> bool:
        """Whether the final trainings have been scheduled, which ends the search."""
        return SCHEDULED in self._finals.user_attrs

    def take_final(self, owner: str) -> TrainingTask | None:
        """Take one of the final trainings; None where none is left."""
        if not self._finals.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        asked = self._finals.ask()
        asked.set_user_attr("owner", owner)
        what = asked.user_attrs
        if "candidate" not in what:  # other processes have taken the rest
            self._finals.tell(asked, state=TrialState.FAIL)
            return None
        return TrainingTask(len(self), what["candidate"], what["point"], what["seed"], asked)

    def record(self, task: TrainingTask, trial: Trial) -> None:
        """Store the trial of a task, unless the task was released as that of a dead process."""
        try:
            task.optuna_trial.set_user_attr("trial", json.dumps(asdict(trial)))
            task.optuna_trial.set_user_attr("trained", trial.is_trained)
            for name, part in self.goal.excess(trial).items():
                task.optuna_trial.set_constraint(name, part)
            self._all[task.rung].tell(task.optuna_trial, self.goal.values(trial))
        except UpdateFinishedTrialError:
            logger.warning("candidate %d had been given to another process", task.candidate)

    def release(self, is_alive: Callable[[str], bool]) -> None:
        """Release the tasks of dead processes for others; `is_alive` takes an owner's name."""
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

    def _promotable(self, rung: int, keep: int) -> list[Trial]:
        """The best one in `keep` of a rung, if within the limits and not yet promoted."""
        trials = [trial for trial in self.trials(rung) if trial.is_trained]
        places = len(trials) // keep
        best = self._ranked(trials)[:places]
        promoted = {trial.user_attrs["candidate"] for trial in _taken(self._studies[rung + 1])}
        promotable = [t for t in best if self.goal.holds(t) and t.candidate not in promoted]
        return promotable[: max(0, MAX_PROMOTED * places - len(promoted))]

    def _ranked(self, trials: list[Trial]) -> list[Trial]:
        """The trials of one rung, best first."""
        if self._evolution is None:
            return ranked(trials, self.goal)
        self._evolution.fit([t for rung in range(len(self)) for t in self.trials(rung)])
        return self._evolution.ranked(trials)


def _sampler(strategy: Strategy, seed: int) -> BaseSampler:
    if strategy == "tpe":
        # Constant liar: running trials count as poor, so that processes try different points.
        return TPESampler(seed=seed, constant_liar=True)
    return RandomSampler(seed)


def _taken(study: Study) -> list[FrozenTrial]:
    """Trials that are running or completed, in any process."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE))


def _trained(study: Study) -> list[FrozenTrial]:
    """Taken trials, except those that were not trained because they exceed a limit."""
    return [trial for trial in _taken(study) if trial.user_attrs.get("trained", True)]


def _is_old(trial: FrozenTrial) -> bool:
    started = trial.datetime_start
    return started is None or datetime.now(UTC) - started.astimezone(UTC) > OWNERLESS_TIMEOUT
