"""The search: it climbs, shares, survives, and judges what failed as worst."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from optuna.storages import BaseStorage, InMemoryStorage

from models.datasets import Dataset
from models.evaluation import Photos, see
from models.extractor import fit_extractor
from models.gan import Generator
from models.presets import preset_config, preset_recipe
from models.rungs import Rungs, Strategy
from models.search import SearchConfig, SearchProgress, latency_ms, search
from models.search_space import Architecture, build, images_for
from models.split import split
from models.steps import run
from models.trials import WORST, Limits, Trial, ranked

START = Architecture(
    gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100, max_images=2000)
)
CONFIG = SearchConfig(max_trials=9, rungs=(64, 128, 256))


@pytest.fixture(scope="module")
def photos() -> Photos:
    """Left and right halves that are bright, 60 of each."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (120, 1, 28, 28), generator=random)
    images[::2, ..., :14] += 180
    images[1::2, ..., 14:] += 180
    dataset = Dataset(
        images=images.to(torch.uint8), labels=torch.arange(120) % 2, categories=("left", "right")
    )
    training, held_out = split(dataset)
    assert held_out is not None
    extractor = run(fit_extractor(training, len(held_out.labels)))
    return run(see(extractor, training, held_out))


def rungs(storage: BaseStorage, strategy: Strategy = "tpe", count: int = 3) -> Rungs:
    return Rungs("search", storage, count, strategy, seed=0)


def searching(
    photos: Photos,
    shared: Rungs,
    states: dict[str, bytes],
    config: SearchConfig = CONFIG,
    start: Architecture = START,
    owner: str = "me",
) -> Iterator[SearchProgress]:
    return search(shared, states, start, photos, config, owner)


def finished(steps: Iterator[SearchProgress]) -> list[Trial]:
    return [step.trial for step in steps if step.trial is not None]


def has_climbed(shared: Rungs) -> bool:
    """Whether all candidates were tried, and the best third of each rung is on the next one."""
    below, above = shared.trials(0), shared.trials(1)
    best = {trial.candidate for trial in ranked(below, Limits())[:3]}
    risen = {trial.candidate for trial in above}
    return (
        len(below) == 9
        and best <= risen < {t.candidate for t in below}
        and (len(shared.trials(2)) >= 1)
    )


def test_a_third_climbs_each_rung_and_the_default_comes_first(photos: Photos) -> None:
    shared = rungs(InMemoryStorage())
    trials = finished(searching(photos, shared, {}))
    assert has_climbed(shared)
    assert trials[0].point == START.point()
    assert trials[0].images == 64
    for trial in trials:
        wanted = images_for(CONFIG.rungs[trial.rung], build(trial.point, START), START)
        assert wanted <= trial.images < wanted + 64  # whole batches
    best = shared.best(Limits())
    assert [trial.rung for trial in best] == sorted((t.rung for t in best), reverse=True)
    assert sorted(t.candidate for t in best) == sorted(t.candidate for t in shared.trials(0))


def test_a_training_made_longer_equals_one_that_never_stopped(photos: Photos) -> None:
    climbing = replace(CONFIG, max_trials=2, keep=2, rungs=(64, 128))
    risen = finished(searching(photos, rungs(InMemoryStorage(), count=2), {}, climbing))[-1]
    assert (risen.rung, risen.point) == (1, START.point())
    whole = replace(CONFIG, max_trials=1, rungs=(128,))
    (straight,) = finished(searching(photos, rungs(InMemoryStorage(), count=1), {}, whole))
    assert (risen.images, risen.kid) == (straight.images, straight.kid)


def test_what_a_dead_process_was_training_is_trained_again(photos: Photos) -> None:
    storage, states = InMemoryStorage(), dict[str, bytes]()
    dying = searching(photos, rungs(storage), states, owner="first")
    next(dying)  # in the middle of the default
    survivor = rungs(storage)
    survivor.release("somebody else")
    survivor.release("first")
    trials = finished(searching(photos, survivor, states, owner="second"))
    assert trials[0].point == START.point()
    assert has_climbed(survivor)


def test_what_was_lost_on_a_higher_rung_rises_again(photos: Photos) -> None:
    storage, states = InMemoryStorage(), dict[str, bytes]()
    for step in searching(photos, rungs(storage), states, owner="first"):
        if step.rung == 1:
            break
    survivor = rungs(storage)
    survivor.release("first")
    trials = finished(searching(photos, survivor, states, owner="second"))
    assert (trials[0].candidate, trials[0].rung) == (step.candidate, 1)
    assert has_climbed(survivor)


def test_two_processes_share_a_search_and_train_nothing_twice(photos: Photos) -> None:
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
    photos: Photos,
) -> None:
    hopeless = replace(START, recipe=replace(START.recipe, lr_end=1e30, anneal_images=1))
    config = replace(CONFIG, max_trials=2, rungs=(64,))
    shared = rungs(InMemoryStorage(), count=1)
    trials = finished(searching(photos, shared, {}, config, hopeless))
    assert len(trials) == 2
    for trial in trials:
        assert trial.kid == WORST
        assert "not finite" in (trial.error or "")
    assert not any(Limits().hold(trial) for trial in shared.best(Limits()))


def test_candidates_beyond_a_limit_do_not_climb(photos: Photos) -> None:
    most = 300_000
    config = replace(CONFIG, max_trials=12, limits=Limits(parameters=most))
    shared = rungs(InMemoryStorage(), "random")
    finished(searching(photos, shared, {}, config))
    below, above = shared.trials(0), shared.trials(1)
    assert any(trial.parameters > most for trial in below)
    assert any(trial.parameters <= most for trial in below)
    assert above
    assert all(trial.parameters <= most for trial in above)
    assert shared.best(config.limits)[0].parameters <= most


def test_a_search_that_is_out_of_time_begins_nothing(photos: Photos) -> None:
    shared = rungs(InMemoryStorage())
    config = replace(CONFIG, max_seconds=1e-9)
    assert finished(searching(photos, shared, {}, config)) == []


def test_equal_seeds_ask_for_equal_candidates(photos: Photos) -> None:
    def points() -> list[object]:
        shared = rungs(InMemoryStorage(), "random", 1)
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
    [{"max_trials": 0}, {"max_seconds": 0}, {"keep": 1}, {"rungs": ()}, {"rungs": (9, 3)}],
)
def test_an_impossible_search_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        SearchConfig(**options)  # type: ignore[arg-type] # wrong on purpose
