"""Trials (measured candidates) of a search, its goal, and ranking by Pareto fronts.

Non-dominated fronts: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" - Deb et al.,
2002 (https://doi.org/10.1109/4235.996017).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from models.search.search_space import Narrowed, Point

Metric = Literal["kid", "latency_ms", "parameters"]
METRICS: tuple[Metric, ...] = ("kid", "latency_ms", "parameters")  # smaller is better

WORST = 1e9  # every objective of a candidate that could not be trained


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate after one training, or after one rung of it."""

    candidate: int
    rung: int
    point: Point
    images: int  # shown in all
    seconds: float  # of training in all
    kid: float  # in the features of the search's own extractor
    latency_ms: float  # median, one image
    parameters: int  # of the generator
    seed: int = 0  # of the training
    score: float | None = None  # by the panel, of a final training; from 0 to 100
    error: str | None = None  # why it could not be trained

    @property
    def is_trained(self) -> bool:
        """Whether any image was shown; a candidate that exceeds a limit is not trained."""
        return self.images > 0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The objectives that a search minimises, the limits of its winner, and its space.

    None means no limit. The default is tried even if it lies outside the space.
    """

    objectives: tuple[Metric, ...] = METRICS
    latency_ms: float | None = None
    parameters: float | None = None
    space: Narrowed = field(default_factory=dict)  # as `search_space.narrow` gives it

    def __post_init__(self) -> None:
        if "kid" not in self.objectives or not set(self.objectives) <= set(METRICS):
            raise ValueError(f"objectives must be kid, and of {METRICS}; got {self.objectives}")
        for name, limit in self.limits.items():
            if limit <= 0:
                raise ValueError(f"the limit of {name} must be positive; got {limit}")

    @property
    def limits(self) -> dict[Metric, float]:
        """The limits that are set."""
        limits: dict[Metric, float | None] = {
            "latency_ms": self.latency_ms,
            "parameters": self.parameters,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}

    def values(self, trial: Trial) -> list[float]:
        """The objectives to minimise; `WORST` for a failed trial, however small or fast."""
        if trial.error is not None:
            return [WORST] * len(self.objectives)
        return [float(getattr(trial, name)) for name in self.objectives]

    def excess(self, trial: Trial) -> dict[Metric, float]:
        """The relative excess over each limit; at most 0 where it holds."""
        return {name: getattr(trial, name) / limit - 1 for name, limit in self.limits.items()}

    def holds(self, trial: Trial) -> bool:
        """Whether the candidate could be trained and is within every limit."""
        return trial.error is None and all(part <= 0 for part in self.excess(trial).values())


def pareto_front(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Trials within the limits that no other trial dominates, the lowest KID first."""
    return next(_fronts([trial for trial in trials if goal.holds(trial)], goal), [])


def ranked(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Best first: front by front, by KID within a front, then those beyond the limits."""
    held = [trial for trial in trials if goal.holds(trial)]
    beyond = [trial for trial in trials if not goal.holds(trial)]

    def badness(trial: Trial) -> tuple[bool, float, float]:
        return trial.error is not None, max(goal.excess(trial).values(), default=0), trial.kid

    in_order = [trial for front in _fronts(held, goal) for trial in front]
    return in_order + sorted(beyond, key=badness)


def _fronts(trials: list[Trial], goal: Goal) -> Iterator[list[Trial]]:
    """Non-dominated trials, then those that only these dominate, and so on; each by KID."""
    values = np.array([goal.values(trial) for trial in trials])
    if not trials:
        return
    # dominates[i, j]: trial i is nowhere worse than j, and somewhere better.
    nowhere_worse = (values[:, None] <= values).all(axis=-1)
    dominates = np.asarray(nowhere_worse & (values[:, None] < values).any(axis=-1))
    left = np.ones(len(trials), dtype=bool)
    while left.any():
        front = left & ~dominates[left].any(0)
        yield sorted((trials[i] for i in np.flatnonzero(front)), key=lambda trial: trial.kid)
        left &= ~front
