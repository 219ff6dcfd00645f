"""Ranking candidates by what was found out about them."""

import random
import time
from dataclasses import replace

import pytest

from models.search.trials import (
    WORST,
    Goal,
    Trial,
    pareto_front,
    ranked,
)


def trial(candidate: int, kid: float, latency_ms: float = 1.0, parameters: int = 10) -> Trial:
    return Trial(
        candidate=candidate, rung=0, point={}, images=1, seconds=1.0, kid=kid,
        latency_ms=latency_ms, parameters=parameters,
    )  # fmt: skip


def order(trials: list[Trial]) -> list[int]:
    return [each.candidate for each in trials]


def test_equals_share_a_front_and_one_objective_decides_what_is_better() -> None:
    small, large = trial(0, 1.0, parameters=5), trial(1, 1.0, parameters=6)
    assert order(pareto_front([large, small], Goal())) == [0]
    assert order(pareto_front([large, small], Goal(objectives=("kid",)))) == [1, 0]
    assert order(pareto_front([small, replace(small, candidate=2)], Goal())) == [0, 2]
    slow = [trial(2, 0.5, latency_ms=2.0), trial(3, 0.6, latency_ms=1.0)]
    assert order(pareto_front(slow, Goal(objectives=("kid", "latency_ms")))) == [2, 3]
    assert order(ranked(slow, Goal(objectives=("kid",)))) == [2, 3]
    assert pareto_front([], Goal()) == ranked([], Goal()) == []


def test_a_thousand_trials_are_ranked_at_once() -> None:
    source = random.Random(0)
    trials = [trial(i, source.random(), source.random(), source.randrange(99)) for i in range(1000)]
    began = time.perf_counter()
    by_rank = ranked(trials, Goal())
    assert time.perf_counter() - began < 2  # a search asks for this before each training
    goal, kept = Goal(), by_rank[: len(pareto_front(trials, Goal()))]
    for one in kept:
        values = goal.values(one)
        for other in trials:
            theirs = goal.values(other)
            better = [b <= a for a, b in zip(values, theirs, strict=True)]
            assert not all(better) or theirs == values


def test_the_front_holds_every_trade_and_nothing_dominated() -> None:
    trials = [trial(0, 3.0, 1.0), trial(1, 1.0, 3.0), trial(2, 2.0, 2.0), trial(3, 2.5, 2.5)]
    assert order(pareto_front(trials, Goal())) == [1, 2, 0]
    assert order(ranked(trials, Goal())) == [1, 2, 0, 3]


def test_what_exceeds_a_limit_comes_behind_and_the_worst_offender_last() -> None:
    trials = [trial(0, 0.1, 9.0), trial(1, 5.0, 1.0), trial(2, 0.2, 4.0), trial(3, 6.0, 2.0)]
    goal = Goal(latency_ms=3.0)
    assert order(ranked(trials, goal)) == [1, 3, 2, 0]
    assert order(pareto_front(trials, goal)) == [1]
    assert goal.excess(trials[0]) == pytest.approx({"latency_ms": 2.0})


def test_a_limit_may_be_met_exactly() -> None:
    assert Goal(latency_ms=1.0, parameters=10).holds(trial(0, 1.0))
    assert not Goal(parameters=9).holds(trial(0, 1.0))


def test_what_could_not_be_trained_comes_last_however_small() -> None:
    failed = replace(trial(0, WORST, 0.1, 1), error="the losses are not finite")
    trials = [failed, trial(1, 5.0, 9.0, 99), trial(2, 1.0, 1.0)]
    assert order(ranked(trials, Goal(latency_ms=2.0))) == [2, 1, 0]
    assert order(ranked(trials, Goal())) == [2, 1, 0]


@pytest.mark.parametrize("goal", [{"latency_ms": 0.0}, {"parameters": -1}])
def test_a_limit_that_nothing_meets_is_refused(goal: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Goal(**goal)  # type: ignore[arg-type] # one of each kind
