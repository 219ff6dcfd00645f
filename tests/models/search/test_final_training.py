"""The final trainings: each assigned once, resumed exactly, ranked by their means."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import Study

from models.evaluation.evaluation_set import EvaluationSet
from models.evaluation.panel import Panel
from models.evaluation.panel_report import open_judge
from models.progress import run
from models.search.final_training import (
    NOT_TRIED,
    FinalConfig,
    FinalPhotos,
    FinalTraining,
    choose_finalists,
    default_trial,
    rank_finalists,
    train_finalists,
)
from models.search.search import SearchConfig, SearchProgress, search
from models.search.search_space import Architecture
from models.search.successive_halving import SuccessiveHalving
from models.search.trials import Goal, Trial
from models.training.presets import preset_config, preset_recipe

pytestmark = pytest.mark.usefixtures("quick_measuring")

START = Architecture(
    gan=preset_config("fast", 28, 1, 2), recipe=preset_recipe(28, 100, max_images=2000)
)
CONFIG = FinalConfig(images=640, checkpoint_every_s=0.0)


@pytest.fixture(scope="session")
def final_photos(photos: EvaluationSet) -> FinalPhotos:
    """The photos, with the panel of grey images."""
    panel = Panel((photos.extractor,))
    judge = run(open_judge(panel, photos.training, photos.held_out))
    return FinalPhotos(photos.training, judge)


def called(storage: BaseStorage) -> SuccessiveHalving:
    """A search whose final trainings are the default with two seeds."""
    shared = SuccessiveHalving("search", storage, 1, Goal(), "evolution", 0)
    shared.schedule_finals([default_trial(START)], [7, 8])
    return shared


def training(
    shared: SuccessiveHalving, states: dict[str, bytes], photos: FinalPhotos, owner: str = "me"
) -> Iterator[SearchProgress]:
    return train_finalists(shared, states, START, photos, CONFIG, owner)


def trial(candidate: int, kid: float, **changes: object) -> Trial:
    blank = replace(default_trial(START), candidate=candidate, kid=kid, images=1)
    return replace(blank, **changes)  # type: ignore[arg-type] # fields of Trial


def test_a_process_that_dies_while_it_calls_leaves_no_finalist_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = InMemoryStorage()
    shared = SuccessiveHalving("search", storage, 1, Goal(), "evolution", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "enqueue_trial", die_at_the_second(Study.enqueue_trial))
        with pytest.raises(KeyboardInterrupt):
            shared.schedule_finals([default_trial(START)], [7, 8, 9])
    next_one = SuccessiveHalving("search", storage, 1, Goal(), "evolution", 0)
    assert next_one.finals_scheduled()
    for _ in range(2):
        next_one.schedule_finals([], [])
    claims = iter(lambda: next_one.take_final("me"), None)
    assert [task.seed for task in claims if task is not None] == [7, 8, 9]


def die_at_the_second(enqueue: Callable[..., None]) -> Callable[..., None]:
    calls = count(1)

    def dying(*arguments: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        enqueue(*arguments)

    return dying


def test_each_finalist_is_trained_with_each_seed_and_calling_twice_is_once(
    final_photos: FinalPhotos,
) -> None:
    shared = called(InMemoryStorage())
    shared.schedule_finals([default_trial(START)], [9])
    states: dict[str, bytes] = {}
    done = [step.trial for step in training(shared, states, final_photos) if step.trial is not None]
    assert [(each.candidate, each.seed) for each in done] == [(NOT_TRIED, 7), (NOT_TRIED, 8)]
    assert shared.finals() == done
    assert all(each.score is not None and 0 <= each.score <= 100 for each in done)
    finished = FinalTraining.finished(done[0], states)
    assert finished.state.images == done[0].images
    assert finished.state.config.anneal_images == finished.state.config.max_images == 640
    steps = [line["step"] for line in finished.lines]
    assert steps == [*range(20, finished.state.step + 1, 20)]


def test_a_final_training_of_a_dead_process_goes_on_to_the_same_weights(
    final_photos: FinalPhotos,
) -> None:
    storage, straight = InMemoryStorage(), dict[str, bytes]()
    dying = training(called(storage), straight, final_photos, "first")
    for _ in range(10):
        next(dying)
    kept = dict(straight)  # as they were when it was killed
    assert f"final-{NOT_TRIED}-7" in kept
    survivor = called(storage)
    survivor.release(lambda owner: owner != "first")
    done = list(training(survivor, kept, final_photos, "second"))
    assert len([step for step in done if step.trial is not None]) == 2

    while True:  # the same training without the kill
        if next(dying).trial is not None:
            break
    of_the_first = trial(NOT_TRIED, 0.0, seed=7)
    ours, theirs = (
        FinalTraining.finished(of_the_first, states).state for states in (straight, kept)
    )
    assert ours.images == theirs.images
    for one, other in zip(ours.ema.parameters(), theirs.ema.parameters(), strict=True):
        assert one.equal(other)


def test_final_trainings_end_in_their_time_and_one_at_least_is_done(
    final_photos: FinalPhotos,
) -> None:
    shared, states = called(InMemoryStorage()), dict[str, bytes]()
    config = FinalConfig(images=10**9, max_seconds=0.5, seconds_left=0.0)
    trials = [
        progress.trial
        for progress in train_finalists(shared, states, START, final_photos, config, "me")
        if progress.trial is not None
    ]
    assert [trial.seed for trial in trials] == [7]
    assert trials[0].seconds < 5  # one step, on a busy machine
    assert shared.take_final("me") is not None  # the other one was not begun


def test_the_default_is_a_finalist_even_where_it_was_never_tried(photos: EvaluationSet) -> None:
    shared = SuccessiveHalving("search", InMemoryStorage(), 1, Goal(), "evolution", 0)
    assert choose_finalists(shared, START, 3) == [default_trial(START)]
    config = SearchConfig(max_trials=4, rungs=(32,))
    list(search(shared, {}, START, photos, config, "me"))
    first, *others = choose_finalists(shared, START, 2)
    assert (first.candidate, first.point) == (0, START.point())
    assert len(others) == 2
    assert others == [each for each in shared.best() if each.candidate != 0][:2]


def test_finalists_are_ranked_by_mean_score_behind_those_that_keep_to_the_limits() -> None:
    trials = [
        trial(1, 3.0, seed=0, score=40.0, latency_ms=1.0),
        trial(1, 5.0, seed=1, score=60.0, latency_ms=1.2),
        trial(2, 1.0, seed=0, score=90.0, latency_ms=3.0),
        trial(2, 1.0, seed=1, score=90.0, latency_ms=3.0),
        trial(3, 1.0, seed=0, score=55.0), trial(3, 6.0, seed=1, score=53.0),
        trial(4, 0.5, seed=0, score=99.0), trial(4, 1e9, seed=1, error="the losses are not finite"),
    ]  # fmt: skip
    order = rank_finalists(trials, Goal(latency_ms=2.0))
    assert [each.typical.candidate for each in order] == [3, 1, 2, 4]
    assert (order[1].kid, order[1].score) == (4.0, 50.0)
    assert order[1].typical.latency_ms == pytest.approx(1.1)
    assert order[0].best.seed == 0
