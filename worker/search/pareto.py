"""Pareto front of a search, as a JSON table of all trainings and as a PNG scatter plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from models.search.search_space import Point
from models.search.trials import (
    Goal,
    Metric,
    Trial,
    pareto_front,
)
from worker.training import plotting

LABELS: dict[Metric, str] = {"latency_ms": "ms for one image", "parameters": "generator parameters"}


def table(trials: Sequence[Trial], finals: Sequence[Trial], goal: Goal) -> bytes:
    """All trainings as JSON; `pareto` marks those on the front, `within_limits` the valid ones.

    The KIDs of candidates and of final trainings have names of their own: they come from different
    features and photos, so that one cannot be compared with the other.
    """
    front = pareto_front(_furthest(trials), goal)
    rows = [
        {**_row(trial, "kid_search"), "within_limits": goal.holds(trial), "pareto": trial in front}
        for trial in trials
    ]
    content = {
        "objectives": list(goal.objectives),
        "limits": goal.limits,
        "trials": rows,
        "finals": [_row(trial, "kid_report") for trial in finals],
    }
    return json.dumps(content, indent=1).encode()


def _row(trial: Trial, kid: str) -> dict[str, object]:
    return {kid if name == "kid" else name: value for name, value in asdict(trial).items()}


def plot(trials: Sequence[Trial], default: Point, goal: Goal) -> bytes:
    """KID against latency and size, each candidate at its highest rung; PNG."""
    figure = plotting.blank(11, 5)
    candidates = [t for t in _furthest(trials) if t.error is None and t.is_trained]
    front = pareto_front(candidates, goal)
    rungs = sorted({trial.rung for trial in candidates})
    for axes, (name, label) in zip(figure.subplots(1, 2), LABELS.items(), strict=True):
        for rung in rungs:
            shown = [trial for trial in candidates if trial.rung == rung]
            longest = max(trial.images for trial in shown)
            axes.scatter(
                [getattr(trial, name) for trial in shown],
                [trial.kid for trial in shown],
                s=20 + 30 * rung,
                alpha=0.7,
                label=f"rung {rung + 1}: up to {longest:,} images",
            )
        axes.scatter(
            [getattr(trial, name) for trial in front],
            [trial.kid for trial in front],
            s=160,
            facecolors="none",
            edgecolors="black",
            label="Pareto front",
        )
        for trial in candidates:
            if trial.point == default:
                place = (getattr(trial, name), trial.kid)
                axes.annotate("default", place, (10, -4), textcoords="offset points", fontsize=9)
        if (limit := goal.limits.get(name)) is not None:
            axes.axvline(limit, color="red", linestyle="--", label="limit")
        axes.set(xlabel=label, ylabel="kid_search: KID in the search's features")
        if candidates and min(trial.kid for trial in candidates) > 0:
            axes.set_yscale("log")
            plotting.label_thrice_a_decade(axes.yaxis)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_formatter(plotting.thousands() if name == "parameters" else "{x:g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return plotting.packed(figure)


def _furthest(trials: Sequence[Trial]) -> list[Trial]:
    """The trial of each candidate at the highest rung that it has reached."""
    furthest: dict[int, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.rung):
        furthest[trial.candidate] = trial
    return list(furthest.values())
