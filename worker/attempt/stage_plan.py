"""Stage plan: the stages of a job and how long they take, for its percent, ETA and deadlines.

Times are on the job's clock: seconds that its attempts have run, without those spent in the queue.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

TRUSTED = 0.02  # of a stage done, from which its pace tells more than its allotment
MOST_PERCENT = 99.9  # of a job that has not ended


@dataclass
class Stage:
    """One stage: what it may take and, once it has begun, how far it is."""

    allotted_s: float | None  # None: a share of what the other stages leave
    began_s: float | None = None
    done_before: float = 0.0  # by an earlier attempt
    done: float = 0.0  # in [0, 1]; 1: it has ended

    def at_this_pace(self, now_s: float) -> float | None:
        """Its remaining seconds at the pace so far; None if it is too early to tell."""
        if self.done == 1:
            return 0.0
        made = self.done - self.done_before
        if self.began_s is None or made < TRUSTED:
            return None
        return (now_s - self.began_s) * (1 - self.done) / made

    def remaining(self, now_s: float) -> float:
        """Its remaining seconds, where it has an allotment."""
        assert self.allotted_s is not None
        pace = self.at_this_pace(now_s)
        if pace is not None:
            return pace
        elapsed_s = 0.0 if self.began_s is None else now_s - self.began_s
        return max(0.0, self.allotted_s - elapsed_s)


class StagePlan:
    """The stages of one attempt, in order; `budget_s` is for all of them and earlier attempts."""

    def __init__(
        self,
        stages: Mapping[str, float | None] | None = None,
        budget_s: float = math.inf,
        spent_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget_s = budget_s
        self._stages = {name: Stage(allotted_s) for name, allotted_s in (stages or {}).items()}
        self._clock = clock
        self._zero = clock() - spent_s
        self.current = ""  # name of the stage that has begun last

    @property
    def spent_s(self) -> float:
        """Seconds that the job has run, over all attempts."""
        return self._clock() - self._zero

    def allot(self, name: str, seconds: float) -> None:
        """Set how long a stage may take, when more is known about it."""
        self._stages[name].allotted_s = seconds

    def begin(self, name: str, done: float = 0.0) -> None:
        """Begin a stage, of which an earlier attempt may have `done` a part.

        The stages before it have ended. Does nothing if it is the current one.
        """
        if name == self.current:
            return
        for other, stage in self._stages.items():
            if other == name:
                break
            stage.done = 1.0
        begun = self._stages.setdefault(name, Stage(0.0))
        begun.began_s, begun.done_before, begun.done = self.spent_s, done, done
        self.current = name

    def advance(self, done: float) -> None:
        """Record the done share of the current stage."""
        self._stages[self.current].done = min(done, 1.0)

    def seconds_for(self, name: str) -> float:
        """How long a stage may take from now on.

        Of what the others leave: all, an equal share where other stages also have no allotment, or
        its own allotment where they have not ended.
        """
        others = [stage for other, stage in self._stages.items() if other != name]
        waiting = [each for each in others if each.allotted_s is None and each.done < 1]
        left = max(0.0, self.budget_s - self.spent_s - self._allotted(others))
        own = self._stages[name].allotted_s
        if own is None:
            return left / (1 + len(waiting))
        return min(own, left) if waiting else left

    @property
    def remaining_in_stage_s(self) -> float:
        """Expected seconds until the current stage ends, which has an allotment."""
        return self._stages[self.current].remaining(self.spent_s)

    @property
    def remaining_s(self) -> float:
        """Expected seconds until the job ends; within the budget, unless it is spent already."""
        now_s, stages = self.spent_s, list(self._stages.values())
        total = self._allotted(stages)
        if total > self.budget_s - now_s > 0:
            return self.budget_s - now_s
        left = max(0.0, self.budget_s - now_s - total)
        sharing = [stage for stage in stages if stage.allotted_s is None]
        for index, stage in enumerate(sharing):
            pace = stage.at_this_pace(now_s)
            own = left / (len(sharing) - index) if pace is None else min(pace, left)
            left -= own
            total += own
        return total

    @property
    def percent(self) -> float:
        """How much of the job's time has passed; never 100."""
        spent, remaining = self.spent_s, self.remaining_s
        if not 0 < spent + remaining < math.inf:
            return 0.0
        return round(min(100 * spent / (spent + remaining), MOST_PERCENT), 2)

    def _allotted(self, stages: list[Stage]) -> float:
        """Remaining seconds of those that have an allotment."""
        return sum(each.remaining(self.spent_s) for each in stages if each.allotted_s is not None)
