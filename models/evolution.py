"""How evolution proposes candidates and ranks them.

The most promising neighbour of a good one is tried, or a stranger that promises more: where the
default suits the photos, what is good is near it, and elsewhere it is not. Both kinds of worlds
were simulated, with the luck of real trainings, to choose the numbers here.
"""

import random
from collections.abc import Sequence

from models.search_space import Point, mutate, sample
from models.surrogate import Surrogate
from models.trials import Goal, Trial, ranked

POPULATION = 8  # the best candidates, which are varied
NEIGHBOURS = 48  # of them, and
STRANGERS = 16  # points at random, of which the most promising is tried
STOP = 0.5  # probability that no further choice is changed
MOST_MUTATIONS = 10


class Evolution:
    """Its ear for what all trainings together say."""

    def __init__(self, goal: Goal, seed: int) -> None:
        self._goal = goal
        self._seed = seed
        self._heard = 0
        self._surrogate: Surrogate | None = None

    def listen(self, trials: Sequence[Trial]) -> None:
        """Learn from all trials that there are."""
        if len(trials) != self._heard:
            self._heard = len(trials)
            self._surrogate = Surrogate.of(trials, self._goal)

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials of one rung, best first."""
        if self._surrogate is None:
            return ranked(trials, self._goal)
        measured = {trial.candidate: trial for trial in trials}
        in_order = ranked(self._surrogate.smoothed(trials), self._goal)
        return [measured[trial.candidate] for trial in in_order]

    def vary(self, best: Sequence[Trial], first: Point, number: int, rung: int) -> Point:
        """A new candidate, the `number`th, from the best ones known, for its fate on a rung."""
        source = random.Random(f"{self._seed}/{number}")
        tried = [trial.point for trial in best]
        parents = [trial.point for trial in best if trial.error is None][:POPULATION] or [first]
        near = [self._neighbour(source.choice(parents), tried, source) for _ in range(NEIGHBOURS)]
        if self._surrogate is None:
            return near[0]
        far = [sample(source, self._goal.space) for _ in range(STRANGERS)]
        return self._surrogate.most_promising(near + far, rung)

    def _neighbour(self, point: Point, tried: Sequence[Point], source: random.Random) -> Point:
        """One choice changed, or a few; further away where everything near has been tried."""
        for _ in range(MOST_MUTATIONS):
            point = mutate(point, source, self._goal.space)
            if point not in tried and source.random() < STOP:
                break
        return point
