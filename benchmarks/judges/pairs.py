"""Pairs of image sets that a person has ranked by eye, and what the judges say of them.

The sets are photos and damaged photos, images of the shipped model, the same with further damage,
and snapshots of a training. `pairs.json` holds every set's measures, and scores between noise and
photos, as the panel gave them; and for each pair which one a person found better as pictures for a
shop, from sheets of six images a category, before any number was known. Pairs that the person could
not decide are left out of the count. `cnn` holds the measures of the judge before the panel, a CNN
fitted on the same training photos.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from models.evaluation.scores import SQUARED_DISTANCES, Measures, score


@dataclass(frozen=True)
class Pair:
    """Two sets of images, the better one first."""

    better: dict[str, float]  # by measure, higher is better; and `overall`
    worse: dict[str, float]


@dataclass(frozen=True)
class Agreement:
    """How often one measure ranks a pair as the person did; ties do not agree.

    What could not be measured, such as the colour of products that no mask shows, counts as 0.
    """

    name: str
    agreed: int
    pairs: int


def read_pairs(file: Path) -> list[Pair]:
    """The decided pairs, scored as the panel scores now."""
    recorded = json.loads(file.read_text())
    sets = {
        name: _scores(measures, recorded["floor"], recorded["noise"])
        for name, measures in recorded["sets"].items()
    }
    for name, measures in recorded["cnn"].items():
        sets[name] |= {
            each: -value if each.startswith(SQUARED_DISTANCES) else value
            for each, value in measures.items()
        }
    pairs = []
    for entry in recorded["pairs"]:
        if entry["better"] is not None:
            other = "second" if entry["better"] == "first" else "first"
            pairs.append(Pair(sets[entry[entry["better"]]], sets[entry[other]]))
    return pairs


def agreements(pairs: list[Pair]) -> list[Agreement]:
    """Each measure's agreement, the overall score's first, then the best."""
    names = {name for pair in pairs for name in (*pair.better, *pair.worse)}
    found = [
        Agreement(
            name, sum(p.better.get(name, 0) > p.worse.get(name, 0) for p in pairs), len(pairs)
        )
        for name in sorted(names)
    ]
    return sorted(found, key=lambda each: (each.name != "overall", -each.agreed))


def _scores(measures: Measures, floor: Measures, noise: Measures) -> dict[str, float]:
    found = score(measures, floor, noise)
    aspects = {f"aspect {name}": value for name, value in found.aspects.items()}
    return {"overall": found.score, **aspects, **found.measures}
