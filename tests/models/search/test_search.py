"""The search: promotion, sharing between processes, recovery, and failed candidates last."""

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import optuna
import pytest
from optuna import create_study
from optuna.storages import BaseStorage, InMemoryStorage

import models.search.successive_halving
from models.checkpoint import load_state
from models.evaluation.evaluation_set import EvaluationSet
from models.evaluation.generation import generate_matching
from models.evaluation.metrics import kernel_distance
from models.networks.gan import Generator
from models.search.search import (
    FIRST_SEED,
    SearchConfig,
    SearchProgress,
    latency_ms,
    search,
)
from models.search.search_space import (
    Architecture,
    Point,
    build,
    narrow,
)
from models.search.successive_halving import (
    MAX_PROMOTED,
    Strategy,
    SuccessiveHalving,
    TrainingTask,
)
from models.search.trials import WORST, Goal, Trial
from models.training.presets import preset_config, preset_recipe
from models.training.state import initial_state
from models.training.train import train

pytestmark = pytest.mark.usefixtures("quick_measuring")

START = Architecture(
    gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100, max_images=2000)
)
ANYTHING = Goal()
CONFIG = SearchConfig(max_trials=9, rungs=(64, 128, 256))


def rungs(
    storage: BaseStorage, strategy: Strategy = "evolution", count: int = 3, goal: Goal = ANYTHING
) -> SuccessiveHalving:
    return SuccessiveHalving("search", storage, count, goal, strategy, seed=0)


def searching(
    photos: EvaluationSet,
    shared: SuccessiveHalving,
    states: dict[str, bytes],
    config: SearchConfig = CONFIG,
    start: Architecture = START,
    owner: str = "me",
) -> Iterator[SearchProgress]:
    return search(shared, states, start, photos, config, owner)


def finished(steps: Iterator[SearchProgress]) -> list[Trial]:
    return [step.trial for step in steps if step.trial is not None]


def has_climbed(shared: SuccessiveHalving) -> bool:
    """Whether all candidates were tried, and the best third is on the next rung, or it is full."""
    below = shared.trials(0)
    best = {trial.candidate for trial in shared._ranked(below)[:3]}
    risen = {trial.candidate for trial in shared.trials(1)}
    full = 3 * MAX_PROMOTED
    is_right = len(risen) == full or (best <= risen and len(risen) < full)
    return len(below) == 9 and is_right and len(shared.trials(2)) >= 1


def told(task: TrainingTask, kid: float, images: int = 100, parameters: int = 5) -> Trial:
    """A trial of the task, with these measurements."""
    return Trial(
        candidate=task.candidate, rung=task.rung, point=task.point, images=images,
        seconds=1.0, kid=kid, latency_ms=1.0, parameters=parameters,
    )  # fmt: skip


def test_a_third_climbs_each_rung_and_the_default_comes_first(photos: EvaluationSet) -> None:
    shared = rungs(InMemoryStorage())
    trials = finished(searching(photos, shared, {}))
    assert has_climbed(shared)
    assert trials[0].point == START.point()
    of_default = [(trial.rung, trial.images) for trial in trials if trial.candidate == 0]
    assert of_default == [(0, 64), (1, 128), (2, 256)][: len(of_default)]
    assert len(of_default) > 0
    best = shared.best()
    assert [trial.rung for trial in best] == sorted((t.rung for t in best), reverse=True)
    assert sorted(t.candidate for t in best) == sorted(t.candidate for t in shared.trials(0))


def test_a_training_made_longer_equals_one_that_never_stopped(photos: EvaluationSet) -> None:
    climbing, states = replace(CONFIG, max_trials=2, keep=2, rungs=(64, 128)), dict[str, bytes]()
    above = finished(searching(photos, rungs(InMemoryStorage(), count=2), states, climbing))[-1]
    assert above.rung == 1
    first = load_state(states[str(above.candidate)])
    assert first.images < above.images
    climber = build(above.point, START)
    whole = initial_state(climber.gan, replace(first.config, max_images=above.images))
    for _ in train(whole, photos.training):
        pass
    images = generate_matching(whole.ema, photos.held_out, FIRST_SEED)
    fake = photos.extractor.see(images).features
    assert above.kid == kernel_distance(photos.features, fake).value


def test_what_a_dead_process_was_training_is_trained_again(photos: EvaluationSet) -> None:
    storage, states = InMemoryStorage(), dict[str, bytes]()
    dying = searching(photos, rungs(storage), states, owner="first")
    next(dying)  # in the middle of the default
    survivor = rungs(storage)
    survivor.release(lambda owner: owner == "first")
    survivor.release(lambda owner: owner != "first")
    trials = finished(searching(photos, survivor, states, owner="second"))
    assert trials[0].point == START.point()
    assert has_climbed(survivor)


def test_what_was_lost_on_a_higher_rung_rises_again(photos: EvaluationSet) -> None:
    storage, states = InMemoryStorage(), dict[str, bytes]()
    for step in searching(photos, rungs(storage), states, owner="first"):
        if step.task.rung == 1:
            break
    survivor = rungs(storage)
    survivor.release(lambda owner: owner != "first")
    trials = finished(searching(photos, survivor, states, owner="second"))
    assert (trials[0].candidate, trials[0].rung) == (step.task.candidate, 1)
    assert has_climbed(survivor)


def test_two_processes_share_a_search_and_train_nothing_twice(photos: EvaluationSet) -> None:
    storage, states = InMemoryStorage(), dict[str, bytes]()
    parts = [
        searching(photos, rungs(storage), states, owner=owner) for owner in ("first", "second")
    ]
    trials = [
        step.trial
        for steps in itertools.zip_longest(*parts)
        for step in steps
        if step is not None and step.trial is not None
    ]
    places = [(trial.candidate, trial.rung) for trial in trials]
    assert len(places) == len(set(places))
    assert has_climbed(rungs(storage))


def test_a_candidate_that_cannot_be_trained_is_the_worst_and_the_search_goes_on(
    photos: EvaluationSet,
) -> None:
    hopeless = replace(START, recipe=replace(START.recipe, lr_end=1e30))
    config = replace(CONFIG, max_trials=2, rungs=(320,))
    shared = rungs(InMemoryStorage(), count=1)
    trials = finished(searching(photos, shared, {}, config, hopeless))
    assert len(trials) == 2
    for trial in trials:
        assert trial.kid == WORST
        assert "not finite" in (trial.error or "")
    assert not any(Goal().holds(trial) for trial in shared.best())


def test_candidates_beyond_a_limit_are_not_worth_a_training(photos: EvaluationSet) -> None:
    most = 600_000
    config = replace(CONFIG, max_trials=3)
    shared = rungs(InMemoryStorage(), "random", goal=Goal(parameters=most))
    finished(searching(photos, shared, {}, config))
    trained = [trial for trial in shared.trials(0) if trial.is_trained]
    refused = [trial for trial in shared.trials(0) if not trial.is_trained]
    assert len(trained) == 3
    assert all(trial.parameters <= most for trial in trained)
    assert refused
    assert all(trial.parameters > most and trial.kid == WORST for trial in refused)
    assert shared.best()[0].parameters <= most


def test_a_latency_that_wavers_costs_no_candidate_its_training(
    photos: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before and after each of the first two trainings, then on the next rung.
    latencies = iter([1.0] * 4 + [9.0])
    monkeypatch.setattr("models.search.search.latency_ms", lambda _: next(latencies))
    shared = rungs(InMemoryStorage(), count=2, goal=Goal(latency_ms=2.0))
    config = replace(CONFIG, max_trials=2, keep=2, rungs=(32, 64))
    above = finished(searching(photos, shared, {}, config))[-1]
    assert (above.rung, above.latency_ms) == (1, 9.0)
    assert above.kid < WORST


def test_what_was_not_worth_a_training_lets_nobody_else_climb() -> None:
    shared = rungs(InMemoryStorage(), "random", goal=Goal(parameters=10))
    for number in range(12):
        task = shared.propose("me", START.point(), 100)
        assert task is not None
        is_small = number % 4 == 0
        size = 5 if is_small else 50
        shared.record(task, told(task, number, images=100 * is_small, parameters=size))
    claims = [shared.promote("me", 3) for _ in range(2)]
    assert [task and task.candidate for task in claims] == [0, None]


def test_a_ranking_that_changes_all_the_time_lets_few_climb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = rungs(InMemoryStorage(), "random")
    for kid in range(9):
        task = shared.propose("me", START.point(), 9)
        assert task is not None
        shared.record(task, told(task, kid))
    turns = itertools.count()

    def turned(trials: list[Trial]) -> list[Trial]:
        turn = next(turns) % max(1, len(trials))
        return trials[turn:] + trials[:turn]

    monkeypatch.setattr(shared, "_ranked", turned)
    climbers = [shared.promote("me", 3) for _ in range(30)]
    assert sum(task is not None for task in climbers) == 3 * MAX_PROMOTED


def test_a_limit_that_nothing_meets_ends_the_search(photos: EvaluationSet) -> None:
    shared = rungs(InMemoryStorage(), "evolution", goal=Goal(latency_ms=1e-6))
    finished(searching(photos, shared, {}, replace(CONFIG, max_trials=2)))
    assert not any(trial.is_trained for trial in shared.trials(0))
    assert len(shared.trials(0)) == 40


def test_evolution_varies_the_best_and_tries_nothing_twice(photos: EvaluationSet) -> None:
    shared = rungs(InMemoryStorage(), "evolution", count=1)
    config = replace(CONFIG, max_trials=8, rungs=(32,))
    trials = finished(searching(photos, shared, {}, config))
    points = [tuple(trial.point.items()) for trial in trials]
    assert len(set(points)) == 8

    def distance(one: Point, other: Point) -> int:
        return sum(one[name] != other[name] for name in one)

    for number, trial in enumerate(trials[1:], start=1):
        # One choice is another, and with it what that choice rules out.
        assert min(distance(trial.point, earlier.point) for earlier in trials[:number]) <= 8
    assert max(distance(START.point(), trial.point) for trial in trials) > 1


@pytest.mark.parametrize("strategy", ["evolution", "tpe", "random"])
def test_candidates_keep_to_a_narrowed_space_but_the_default_need_not(
    photos: EvaluationSet, strategy: Strategy
) -> None:
    goal = Goal(space=narrow({"family": ["dcgan"], "depth": [1], "batch_size": [16, 32]}))
    shared = rungs(InMemoryStorage(), strategy, 1, goal)
    config = replace(CONFIG, max_trials=6, rungs=(32,))
    steps = searching(photos, shared, {}, config)
    next(steps)  # the default, whose process dies
    shared = rungs(shared._studies[0]._storage, strategy, 1, goal)
    shared.release(lambda _: False)
    first, *others = finished(searching(photos, shared, {}, config))
    assert first.point == START.point()
    assert first.point["family"] == "residual"
    assert len(others) == 5
    for trial in others:
        assert trial.point["family"] == "dcgan"
        assert trial.point["batch_size"] in (16, 32)


def test_a_process_that_died_before_it_said_its_name_loses_nothing(
    photos: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = InMemoryStorage()
    study = create_study(study_name="search/0", storage=storage, directions=["minimize"] * 3)
    dying = rungs(storage)
    monkeypatch.setattr(optuna.Trial, "set_user_attr", lambda *_: sys.exit())
    with pytest.raises(SystemExit):
        dying.propose("first", START.point(), 9)
    monkeypatch.undo()
    survivor = rungs(storage)
    survivor.release(lambda _: False)
    assert not survivor.is_idle()  # it may yet say who it is
    monkeypatch.setattr(models.search.successive_halving, "OWNERLESS_TIMEOUT", timedelta())
    survivor.release(lambda _: False)
    assert survivor.is_idle()
    (trial,) = finished(searching(photos, survivor, {}, replace(CONFIG, max_trials=1, rungs=(32,))))
    assert trial.point == START.point()
    assert len(study.trials) == 2


def test_what_was_taken_for_dead_is_not_told_twice(photos: EvaluationSet) -> None:
    storage, config = InMemoryStorage(), replace(CONFIG, max_trials=1, rungs=(32,))
    slow = searching(photos, rungs(storage, count=1), {}, config, owner="slow")
    next(slow)
    survivor = rungs(storage, count=1)
    survivor.release(lambda _: False)
    (trial,) = finished(searching(photos, survivor, {}, config, owner="fast"))
    finished(slow)
    assert survivor.trials(0) == [trial]


def test_a_search_that_is_out_of_time_begins_nothing(photos: EvaluationSet) -> None:
    shared = rungs(InMemoryStorage())
    config = replace(CONFIG, max_seconds=1e-9)
    assert finished(searching(photos, shared, {}, config)) == []


def test_a_training_that_is_not_done_in_time_is_dropped(photos: EvaluationSet) -> None:
    shared = rungs(InMemoryStorage(), count=1)
    config = replace(CONFIG, max_seconds=2.0, rungs=(10_000_000,))
    began = time.monotonic()
    assert finished(searching(photos, shared, {}, config)) == []
    assert time.monotonic() - began < 10  # with what is measured before, on a busy machine
    assert shared.trials(0) == []
    assert shared.is_idle()


# Evolution varies what was measured to be best; a latency is never the same twice.
@pytest.mark.parametrize("strategy", ["tpe", "random"])
def test_equal_seeds_ask_for_equal_candidates(photos: EvaluationSet, strategy: Strategy) -> None:
    def points() -> list[object]:
        shared = rungs(InMemoryStorage(), strategy, 1)
        config = replace(CONFIG, max_trials=4, rungs=(32,))
        return [trial.point for trial in finished(searching(photos, shared, {}, config))]

    assert points() == points()


def test_the_latency_grows_with_the_network() -> None:
    small, large = (
        Generator(replace(START.gan, resolution=64, generator_width=width)).eval()
        for width in (8, 128)
    )
    assert 0 < latency_ms(small) < latency_ms(large)


@pytest.mark.parametrize(
    "options",
    [{"max_trials": 0}, {"max_seconds": -1}, {"keep": 1}, {"rungs": ()}, {"rungs": (9, 3)}],
)
def test_an_impossible_search_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        SearchConfig(**options)  # type: ignore[arg-type] # wrong on purpose
