"""Evolutionary search: proposes candidates by mutation and ranks them, with a surrogate model.

The candidate to try is the one with the best prediction among mutations of good candidates and
random points. Where the default suits the photos, good candidates are near it; elsewhere they are
not. The constants were chosen by simulating searches of both kinds, with the noise of real
trainings.
"""

import random
from collections.abc import Sequence

from models.search.search_space import Point, mutate, random_point
from models.search.surrogate import Surrogate
from models.search.trials import Goal, Trial, ranked

POPULATION = 8  # best candidates, the parents of mutations
NEIGHBOURS = 48  # mutations drawn for each proposal
RANDOM_POINTS = 16  # random points drawn for each proposal
STOP_PROBABILITY = 0.5  # probability that no further choice is changed
MOST_MUTATIONS = 10


class Evolution:
    """Proposes and ranks the candidates of one search."""

    def __init__(self, goal: Goal, seed: int) -> None:
        self._goal = goal
        self._seed = seed
        self._fitted_to = 0
        self._surrogate: Surrogate | None = None

    def fit(self, trials: Sequence[Trial]) -> None:
        """Fit the surrogate to all trials of the search, if there are new ones."""
        if len(trials) != self._fitted_to:
            self._fitted_to = len(trials)
            self._surrogate = Surrogate.of(trials, self._goal)

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials of one rung, best first, by KIDs smoothed by the surrogate."""
        if self._surrogate is None:
            return ranked(trials, self._goal)
        measured = {trial.candidate: trial for trial in trials}
        in_order = ranked(self._surrogate.smoothed(trials), self._goal)
        return [measured[trial.candidate] for trial in in_order]

    def propose(self, best: Sequence[Trial], first: Point, number: int, rung: int) -> Point:
        """The `number`th candidate, from the trials in `best`, for a low KID on `rung`.

        `first` is the parent while no trial has succeeded.
        """
        source = random.Random(f"{self._seed}/{number}")
        tried = [trial.point for trial in best]
        parents = [trial.point for trial in best if trial.error is None][:POPULATION] or [first]
        near = [self._neighbour(source.choice(parents), tried, source) for _ in range(NEIGHBOURS)]
        if self._surrogate is None:
            return near[0]
        far = [random_point(source, self._goal.space) for _ in range(RANDOM_POINTS)]
        return self._surrogate.most_promising(near + far, rung)

    def _neighbour(self, point: Point, tried: Sequence[Point], source: random.Random) -> Point:
        """Mutate one or a few choices; more of them where all nearer points have been tried."""
        for _ in range(MOST_MUTATIONS):
            point = mutate(point, source, self._goal.space)
            if point not in tried and source.random() < STOP_PROBABILITY:
                break
        return point
