"""What a search found out about its candidates, and which of them are the best.

Non-dominated fronts: "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" - Deb et al.,
2002 (https://doi.org/10.1109/4235.996017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.search_space import Point

WORST = 1e9  # every objective of a candidate that could not be trained


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate after the training of one rung; all three objectives are minimised."""

    candidate: int
    rung: int
    point: Point
    images: int  # shown in all
    seconds: float  # of training in all
    kid: float  # in the features of the search's own extractor
    latency_ms: float  # median, one image
    parameters: int  # of the generator
    error: str | None = None  # why it could not be trained

    @property
    def objectives(self) -> tuple[float, float, float]:
        """What is minimised."""
        return self.kid, self.latency_ms, float(self.parameters)

    def dominates(self, other: "Trial") -> bool:
        """Nowhere worse, somewhere better."""
        pairs = list(zip(self.objectives, other.objectives, strict=True))
        return all(mine <= theirs for mine, theirs in pairs) and any(
            mine < theirs for mine, theirs in pairs
        )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a winner must not exceed; None: anything goes."""

    latency_ms: float | None = None
    parameters: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("latency_ms", self.latency_ms), ("parameters", self.parameters)):
            if limit is not None and limit <= 0:
                raise ValueError(f"the limit of {name} must be positive; got {limit}")

    def excess(self, trial: Trial) -> dict[str, float]:
        """By how many parts each limit is exceeded; at most 0 where it holds."""
        measured = {"latency_ms": trial.latency_ms, "parameters": float(trial.parameters)}
        limits = {"latency_ms": self.latency_ms, "parameters": self.parameters}
        return {
            name: measured[name] / limit - 1 for name, limit in limits.items() if limit is not None
        }

    def hold(self, trial: Trial) -> bool:
        """Whether the candidate could be trained and keeps to every limit."""
        return trial.error is None and all(part <= 0 for part in self.excess(trial).values())


def pareto_front(trials: Sequence[Trial], limits: Limits) -> list[Trial]:
    """Those within the limits that no other one dominates, the lowest KID first."""
    held = [trial for trial in trials if limits.hold(trial)]
    front = [t for t in held if not any(other.dominates(t) for other in held)]
    return sorted(front, key=lambda trial: trial.kid)


def ranked(trials: Sequence[Trial], limits: Limits) -> list[Trial]:
    """The best first: front by front and by KID within one, then those beyond the limits."""
    rest = [trial for trial in trials if limits.hold(trial)]
    beyond = [trial for trial in trials if not limits.hold(trial)]
    order: list[Trial] = []
    while rest:
        front = pareto_front(rest, limits)
        order += front
        rest = [trial for trial in rest if trial not in front]

    def badness(trial: Trial) -> tuple[bool, float, float]:
        return trial.error is not None, max(limits.excess(trial).values(), default=0), trial.kid

    return order + sorted(beyond, key=badness)
