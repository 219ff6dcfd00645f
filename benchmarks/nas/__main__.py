"""python -m benchmarks.nas: search strategies against each other and the hand-made default.

Each repeat runs every strategy with its own seed and the same number of candidates and rungs, so
for the same time, on a part of the training photos. Rungs are given in images shown to the default;
other candidates train for the same time. The best candidate of each search and the default are then
trained from the beginning on all training photos, with several seeds, and judged by the panel, with
photos and networks that no search has used. `random` is the control: the same rungs, random
candidates. Limits are relative to the default's values on this machine, which are measured first;
latencies are measured once more at the end.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from statistics import mean, median, stdev

from optuna.storages import InMemoryStorage
from scipy.stats import t as student

from benchmarks.measure import machine
from benchmarks.photos import photo_parser, split_photos
from models.data.split import SEARCHED, split
from models.evaluation.evaluation_set import EvaluationSet, look_at_photos
from models.evaluation.extractors import choice_extractor, report_extractors
from models.evaluation.panel import Panel
from models.evaluation.panel_report import open_judge
from models.networks.gan import Generator
from models.pretrain import judge_of_grey
from models.progress import run
from models.search.final_training import (
    FinalConfig,
    Finalist,
    FinalPhotos,
    choose_finalists,
    default_trial,
    rank_finalists,
    train_finalists,
)
from models.search.search import SearchConfig, latency_ms, search
from models.search.search_space import Architecture, build, cost, describe_architecture
from models.search.successive_halving import Strategy, SuccessiveHalving
from models.search.trials import METRICS, Goal, Trial
from models.training.presets import preset_config, preset_recipe
from worker.training.evaluation_photos import MOST_SEARCH_PHOTOS

STRATEGIES: tuple[Strategy, ...] = ("evolution", "tpe", "random")
DEFAULT = "default"
LISTED = 3  # of a search's best
LATENCIES = 5  # medians of single images, in turn


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, train the winners, and print the results of each repeat and a summary."""
    options = _parser().parse_args(arguments)
    whole, searched = _photos(options)
    channels, categories = whole.training.images.shape[1], len(whole.training.categories)
    start = Architecture(
        gan=preset_config(options.preset, options.resolution, channels, categories),
        recipe=preset_recipe(
            options.resolution,
            len(whole.training.labels),
            flip=options.flip,
        ),
    )
    goal = _goal(options, start)
    print(
        f"default: {describe_architecture(start)}\n"
        f"{', '.join(goal.objectives)}, limits: {goal.limits}",
        flush=True,
    )
    found: dict[str, list[Finalist]] = {name: [] for name in (DEFAULT, *options.strategies)}
    for repeat in options.repeats:
        winners = {DEFAULT: default_trial(start)}
        for strategy in options.strategies:
            rungs = SuccessiveHalving(
                "search", InMemoryStorage(), len(options.rungs), goal, strategy, repeat
            )
            _search(rungs, start, searched, options)
            for trial in rungs.best()[:LISTED]:
                print(
                    f"  {trial.kid:.2f} {describe_architecture(build(trial.point, start))}",
                    flush=True,
                )
            winners[strategy] = choose_finalists(rungs, start, 1)[-1]
        for name, finalist in _finals(winners, start, whole, options, repeat).items():
            found[name].append(finalist)
            _show(name, repeat, finalist, start)
    _summary(found, options)


def _parser() -> argparse.ArgumentParser:
    parser = photo_parser(__doc__, preset="balanced")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--repeats", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds")
    parser.add_argument("--objectives", nargs="+", choices=METRICS, default=METRICS)
    parser.add_argument("--trials", type=int, default=30, help="candidates of each search")
    parser.add_argument("--rungs", type=int, nargs="+", default=[10_000, 30_000, 90_000])
    parser.add_argument("--final-images", type=int, default=90_000)
    parser.add_argument("--final-seeds", type=int, default=2)
    parser.add_argument("--latency-limit", type=float, help="parts of the default's")
    parser.add_argument("--parameter-limit", type=float, help="parts of the default's")
    return parser


def _photos(options: argparse.Namespace) -> tuple[FinalPhotos, EvaluationSet]:
    """What the final trainings are judged by, and the evaluation set of the search."""
    training, held_out = split_photos(options)
    cnn = judge_of_grey(None, training, len(held_out.labels))
    judge = run(open_judge(Panel(report_extractors(cnn)), training, held_out))
    part, compared = split(training, SEARCHED)
    assert compared is not None
    own = judge_of_grey(None, part, len(compared.labels), seed=1)
    searched = run(look_at_photos(choice_extractor(own), part, compared, MOST_SEARCH_PHOTOS))
    return FinalPhotos(training, judge), searched


def _goal(options: argparse.Namespace, start: Architecture) -> Goal:
    goal = Goal(objectives=tuple(options.objectives))
    if options.latency_limit is not None:
        default = median(_latencies([start])[0])
        goal = replace(goal, latency_ms=options.latency_limit * default)
    if options.parameter_limit is not None:
        parameters = cost(start.gan).generator_parameters
        goal = replace(goal, parameters=options.parameter_limit * parameters)
    return goal


def _search(
    rungs: SuccessiveHalving,
    start: Architecture,
    photos: EvaluationSet,
    options: argparse.Namespace,
) -> None:
    config = SearchConfig(
        max_trials=options.trials, max_seconds=float("inf"), rungs=tuple(options.rungs)
    )
    for progress in search(rungs, {}, start, photos, config, "benchmark"):
        if progress.trial is not None:
            trial = progress.trial
            print(
                f"  rung {trial.rung} candidate {trial.candidate:>3}  kid {trial.kid:10.2f}"
                f"  {trial.latency_ms:.2f} ms  {trial.parameters:>9,} parameters"
                f"  {trial.images:>8,} images  {trial.seconds:.0f} s  {trial.error or ''}",
                flush=True,
            )


def _finals(
    winners: dict[str, Trial],
    start: Architecture,
    photos: FinalPhotos,
    options: argparse.Namespace,
    repeat: int,
) -> dict[str, Finalist]:
    """Each strategy's best candidate, trained to the end with the same seeds."""
    numbered = {name: replace(t, candidate=i) for i, (name, t) in enumerate(winners.items())}
    first_seed = 1000 * (repeat + 1)
    rungs = SuccessiveHalving("finals", InMemoryStorage(), 1, Goal(), "random", repeat)
    rungs.schedule_finals([*numbered.values()], range(first_seed, first_seed + options.final_seeds))
    config = FinalConfig(images=options.final_images)
    for _ in train_finalists(rungs, {}, start, photos, config, "benchmark"):
        pass
    by_number = {each.typical.candidate: each for each in rank_finalists(rungs.finals(), Goal())}
    return {name: by_number[trial.candidate] for name, trial in numbered.items()}


def _latencies(architectures: Sequence[Architecture]) -> list[list[float]]:
    """Milliseconds for one image of each, measured in turn."""
    generators = [Generator(each.gan).eval() for each in architectures]
    times: list[list[float]] = [[] for _ in generators]
    for _ in range(LATENCIES):
        for own, generator in zip(times, generators, strict=True):
            own.append(latency_ms(generator))
    return times


def _show(name: str, repeat: int, finalist: Finalist, start: Architecture) -> None:
    architecture = build(finalist.trials[0].point, start)
    default, own = (median(times) for times in _latencies([start, architecture]))
    scores = ", ".join(f"{trial.score or 0.0:.1f}" for trial in finalist.trials)
    print(
        f"{name}, repeat {repeat}: score {finalist.score:.1f} ({scores}), kid {finalist.kid:.3f};"
        f" {own:.2f} ms, the default {default:.2f} ms\n  {describe_architecture(architecture)}",
        flush=True,
    )


def _summary(found: dict[str, list[Finalist]], options: argparse.Namespace) -> None:
    print(
        f"\n{options.trials} candidates, rungs {options.rungs}, finals {options.final_images}"
        f" with {options.final_seeds} seeds; {machine()}"
    )
    for name, finalists in found.items():
        scores = [trial.score or 0.0 for finalist in finalists for trial in finalist.trials]
        ratios = [
            own.kid / default.kid for own, default in zip(finalists, found[DEFAULT], strict=True)
        ]
        print(
            f"  {name:<10} score {_interval(scores)}; its KID is the default's times"
            f" {_interval(ratios)}"
        )
    for name, finalists in found.items():
        if "random" in found:
            pairs = zip(finalists, found["random"], strict=True)
            better = sum(own.score > control.score for own, control in pairs)
            print(f"  {name:<10} better than random in {better} of {len(finalists)} repeats")


def _interval(values: Sequence[float]) -> str:
    """Mean with the 95 % interval of Student's t."""
    if len(values) < 2:
        return f"{mean(values):.3f}"
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / sqrt(len(values))
    return f"{mean(values):.3f} ({mean(values) - half:.3f} to {mean(values) + half:.3f})"


if __name__ == "__main__":
    main()
