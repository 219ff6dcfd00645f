"""python -m benchmarks.judges: the exam of the panel, by known damage and by people.

Photos that are neither fitted on nor compared with take the place of generated images, and are
damaged in ten ways at five strengths each. A judge must score them lower with each strength. Then
the recorded pairs of image sets that a person has ranked by eye, before any number was seen
(`pairs.json`), are ranked by each measure and by the overall score.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch

from benchmarks.judges.exam import Row, examine, prepare
from benchmarks.judges.pairs import Agreement, agreements, read_pairs
from benchmarks.measure import machine
from benchmarks.photos import photo_parser, split_photos
from models.evaluation.extractors import report_extractors
from models.evaluation.panel import Panel

PAIRS = Path(__file__).with_name("pairs.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both parts and print their tables."""
    options = _parser().parse_args(arguments)
    print(f"machine: {machine()}")
    show_agreement(agreements(read_pairs(PAIRS)))
    training, held_out = split_photos(options)
    torch.manual_seed(0)
    exam = prepare(lambda _: Panel(report_extractors()), training, held_out)
    rows = []
    for row in examine(exam):
        rows.append(row)
        scores = "  ".join(f"{scores.score:5.1f}" for scores in row.scores)
        print(f"{row.kind:<17} {scores}  {_judgement(row)}", flush=True)
    show_correlations(rows)


def show_agreement(found: list[Agreement]) -> None:
    """How often each measure agrees with the person."""
    print(f"\nagreement with {found[0].pairs} pairs ranked by eye")
    for each in found:
        print(f"  {each.name:<22} {each.agreed:3d}  ({each.agreed / each.pairs:.0%})")


def show_correlations(rows: list[Row]) -> None:
    """Spearman's correlation of every measure's score with the strength, by kind of damage."""
    names = [*rows[0].scores[0].measures]
    print("\nSpearman's correlation of scores with the strength; -1: falls with each step")
    print(f"{'':<22} " + " ".join(f"{row.kind[:8]:>8}" for row in rows) + "     mean")
    for name in names:
        values = [row.correlations().get(name, 0.0) for row in rows]
        print(f"{name:<22} " + " ".join(f"{x:8.2f}" for x in values) + f" {mean(values):8.2f}")
    strict = sum(row.falls_strictly for row in rows)
    print(f"\nthe overall score falls with every step on {strict} of {len(rows)} kinds")


def _judgement(row: Row) -> str:
    return "falls with every step" if row.falls_strictly else "does not always fall"


def _parser() -> argparse.ArgumentParser:
    parser = photo_parser(__doc__, "balanced")
    parser.set_defaults(resolution=64)
    return parser


if __name__ == "__main__":
    main()
