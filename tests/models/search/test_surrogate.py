"""The surrogate model: it separates noise from quality, and evolution with it finds more."""

import random
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
from optuna.storages import InMemoryStorage

from models.search.search_space import (
    SPACE,
    Architecture,
    Point,
    mutate,
    random_point,
)
from models.search.successive_halving import Strategy, SuccessiveHalving
from models.search.surrogate import FEWEST, GaussianProcess, Surrogate
from models.search.trials import WORST, Goal, Trial
from models.training.presets import preset_config, preset_recipe

START = Architecture(
    gan=preset_config("balanced", 32, 1, 10), recipe=preset_recipe(32, 54_000)
).point()
KID = Goal(objectives=("kid",))
LUCK = 0.2  # standard deviation of log KID over seeds, as measured

Skill = Callable[[Point], float]


def skill_of(seed: int) -> Skill:
    """A simulated true log KID of each architecture; smooth in numeric choices."""
    source = random.Random(seed)
    worth: dict[str, list[float]] = {}
    for name, values in SPACE.items():
        best, steepness = source.uniform(0, len(values) - 1), source.uniform(0.4, 2.4)
        numbers = [steepness * ((i - best) / len(values)) ** 2 for i in range(len(values))]
        names = [source.gauss(0, 0.25) for _ in values]
        is_named = any(isinstance(value, bool | str) for value in values)
        worth[name] = names if is_named else numbers
    return lambda point: sum(worth[name][SPACE[name].index(point[name])] for name in SPACE)


def trial(candidate: int, point: Point, log_kid: float, rung: int = 0, **changes: object) -> Trial:
    blank = Trial(
        candidate=candidate, rung=rung, point=point, images=100, seconds=1.0,
        kid=float(np.exp(log_kid)), latency_ms=1.0, parameters=1000,
    )  # fmt: skip
    return replace(blank, **changes)  # type: ignore[arg-type] # fields of Trial


def measure(skill: Skill, count: int, source: random.Random) -> list[Trial]:
    """Neighbours of the default, each measured once, with noise."""
    points = [mutate(mutate(START, source), source) for _ in range(count)]
    return [trial(i, p, 3 + skill(p) + source.gauss(0, LUCK)) for i, p in enumerate(points)]


def search(skill: Skill, strategy: Strategy, seed: int, candidates: int) -> float:
    """The true log KID of a simulated search's best candidate, less that of the default."""
    luck = random.Random(seed)
    rungs = SuccessiveHalving("search", InMemoryStorage(), 3, KID, strategy, seed)
    while True:
        task = rungs.promote("me", 3) or rungs.propose("me", START, candidates)
        if task is None:
            break
        log_kid = 3 - task.rung + skill(task.point) + luck.gauss(0, LUCK)
        rungs.record(task, trial(task.candidate, task.point, log_kid, task.rung))
    found = next(each for each in rungs.best() if each.point != START)
    return skill(found.point) - skill(START)


def test_evolution_that_listens_finds_more_than_chance() -> None:
    worlds = range(5)
    evolution = [search(skill_of(seed), "evolution", seed, 24) for seed in worlds]
    chance = [search(skill_of(seed), "random", seed, 24) for seed in worlds]
    assert mean(evolution) < mean(chance) - 0.2
    assert sum(own < other for own, other in zip(evolution, chance, strict=True)) >= 4


def test_what_all_trainings_say_is_nearer_to_the_truth_than_one() -> None:
    off_measured: list[float] = []
    off_smoothed: list[float] = []
    for seed in range(5):
        skill = skill_of(seed)
        trials = measure(skill, 40, random.Random(seed))
        smoothed = Surrogate(trials, KID).smoothed(trials)
        truth = [3 + skill(each.point) for each in trials]
        for off, seen in ((off_measured, trials), (off_smoothed, smoothed)):
            off += [abs(np.log(t.kid) - true) for t, true in zip(seen, truth, strict=True)]
    assert mean(off_smoothed) < 0.8 * mean(off_measured)


def test_it_is_sure_where_it_has_seen_much_and_unsure_far_away() -> None:
    x = np.linspace(0, 1, 20)[:, None]
    process = GaussianProcess(x, np.sin(6 * x[:, 0]))
    near, far = process.predict(np.array([[0.5]])), process.predict(np.array([[9.0]]))
    assert near[0][0] == pytest.approx(np.sin(3), abs=0.05)
    assert near[1][0] < 0.1 * far[1][0]


def test_that_better_ones_alone_climb_does_not_make_them_look_worse() -> None:
    skill, source = skill_of(1), random.Random(1)
    trials = measure(skill, 30, source)
    best = sorted(trials, key=lambda each: each.kid)[:10]
    climbed = [trial(t.candidate, t.point, 2 + skill(t.point), rung=1) for t in best]
    with_both = Surrogate(trials + climbed, KID)
    points = [each.point for each in trials]
    chosen = with_both.most_promising(points, 1)
    assert skill(chosen) <= np.quantile([skill(point) for point in points], 0.2)


def test_what_is_over_a_limit_is_not_promising() -> None:
    source = random.Random(0)
    points = [{**START, "generator_width": source.choice((16, 64))} for _ in range(12)]
    points = [{**p, "z_dim": source.choice((32, 64, 128, 256))} for p in points]
    wide = [point["generator_width"] == 64 for point in points]
    assert any(wide)
    # Wide ones are much better, and take too long: they were not trained.
    trials = [
        trial(i, p, 3.0, images=0, latency_ms=4.0, kid=WORST) if w else trial(i, p, 3.0 + i / 100)
        for i, (p, w) in enumerate(zip(points, wide, strict=True))
    ]
    goal = Goal(objectives=("kid",), latency_ms=2.0)
    choices = [{**START, "generator_width": width} for width in (16, 64)]
    assert Surrogate(trials, goal).most_promising(choices, 0)["generator_width"] == 16


def test_it_needs_a_few_trainings_that_say_something() -> None:
    points = [random_point(random.Random(seed)) for seed in range(FEWEST)]
    failed = [trial(9, START, 1.0, error="lost", kid=WORST), trial(8, START, 1.0, images=0)]
    good = [trial(i, point, 1.0) for i, point in enumerate(points)]
    assert Surrogate.of(failed + good[1:], KID) is None
    surrogate = Surrogate.of(failed + good, KID)
    assert surrogate is not None
    assert surrogate.smoothed(failed) == failed


def test_a_kid_of_nothing_or_less_is_as_good_as_can_be() -> None:
    points = [random_point(random.Random(seed)) for seed in range(8)]
    kids = (-0.5, 0.0, 0.4, 1.0, 2.0, 4.0, 8.0, 16.0)
    trials = [
        trial(i, point, 0.0, kid=kid)
        for i, (point, kid) in enumerate(zip(points, kids, strict=True))
    ]
    surrogate = Surrogate(trials, KID)
    assert surrogate.most_promising(points, 0) in points[:3]
    assert all(np.isfinite(each.kid) for each in surrogate.smoothed(trials))
