"""Ranking candidates by what was found out about them."""

from dataclasses import replace

import pytest

from models.trials import WORST, Limits, Trial, pareto_front, ranked


def trial(candidate: int, kid: float, latency_ms: float = 1.0, parameters: int = 10) -> Trial:
    return Trial(
        candidate=candidate, rung=0, point={}, images=1, seconds=1.0, kid=kid,
        latency_ms=latency_ms, parameters=parameters,
    )  # fmt: skip


def order(trials: list[Trial]) -> list[int]:
    return [each.candidate for each in trials]


def test_domination_is_nowhere_worse_and_somewhere_better() -> None:
    small, large = trial(0, 1.0, parameters=5), trial(1, 1.0, parameters=6)
    assert small.dominates(large)
    assert not large.dominates(small)
    assert not small.dominates(small)
    assert not trial(2, 0.5, latency_ms=2.0).dominates(trial(3, 0.6, latency_ms=1.0))


def test_the_front_holds_every_trade_and_nothing_dominated() -> None:
    trials = [trial(0, 3.0, 1.0), trial(1, 1.0, 3.0), trial(2, 2.0, 2.0), trial(3, 2.5, 2.5)]
    assert order(pareto_front(trials, Limits())) == [1, 2, 0]
    assert order(ranked(trials, Limits())) == [1, 2, 0, 3]


def test_what_exceeds_a_limit_comes_behind_and_the_worst_offender_last() -> None:
    trials = [trial(0, 0.1, 9.0), trial(1, 5.0, 1.0), trial(2, 0.2, 4.0), trial(3, 6.0, 2.0)]
    limits = Limits(latency_ms=3.0)
    assert order(ranked(trials, limits)) == [1, 3, 2, 0]
    assert order(pareto_front(trials, limits)) == [1]
    assert limits.excess(trials[0]) == pytest.approx({"latency_ms": 2.0})


def test_a_limit_may_be_met_exactly() -> None:
    assert Limits(latency_ms=1.0, parameters=10).hold(trial(0, 1.0))
    assert not Limits(parameters=9).hold(trial(0, 1.0))


def test_what_could_not_be_trained_comes_last_however_small() -> None:
    failed = replace(trial(0, WORST, 0.1, 1), error="the losses are not finite")
    trials = [failed, trial(1, 5.0, 9.0, 99), trial(2, 1.0, 1.0)]
    assert order(ranked(trials, Limits(latency_ms=2.0))) == [2, 1, 0]
    assert order(ranked(trials, Limits())) == [2, 1, 0]


@pytest.mark.parametrize("limits", [{"latency_ms": 0.0}, {"parameters": -1}])
def test_a_limit_that_nothing_meets_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Limits(**limits)  # type: ignore[arg-type] # one of each kind
