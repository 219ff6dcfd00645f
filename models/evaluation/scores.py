"""Scores of measured images between noise (0) and photos (100), and a verdict in plain words.

A measure's score is linear between its value for noise and its floor, the value of photos in place
of generated images. Squared distances are compared by their roots.

An aspect is as good as its strictest judge says: a network that does not see a fault must not hide
it. A judge's scores of an aspect are averaged. The overall score is the geometric mean of the
aspects, so that hardly any makes up for one that has failed; it is shifted, so that differences
between failures, which eyes do not see, hardly count.
"""

import math
from dataclasses import dataclass
from statistics import mean

# Values by name. A measure in the features of a network ends in the network's name: `fd_lite2`.
Measures = dict[str, float]

# The measures of each aspect.
ASPECTS: dict[str, tuple[str, ...]] = {
    "fidelity": ("fd", "kid", "precision", "density"),
    "variety": ("recall", "coverage", "diversity"),
    "texture": ("swd",),
    "color": ("color_product", "color_background"),
    "category": ("category_accuracy", "cas"),
    "originality": ("authenticity",),
}
SQUARED_DISTANCES = ("fd", "kid")
REASONS = {
    "fidelity": "the images do not look like the photos",
    "variety": "the images vary less than the photos",
    "texture": "textures are not the photos': too smooth, noisy or patterned",
    "color": "colours are not the photos'",
    "category": "products are not recognisable as their category",
    "originality": "images repeat training photos",
}
GOOD, USABLE = 85, 70  # least overall scores of these verdicts, as eyes would put them
# Of the geometric mean. From 10 to 50 it agrees best with a person (benchmarks.judges); at 10, one
# aspect of 0 keeps the others from making a model usable.
SHIFT = 10.0
DISAGREEMENT = 30  # points between two judges' scores of one aspect that raise an alarm


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores in [0, 100] and what they mean."""

    score: float  # overall
    aspects: dict[str, float]
    measures: dict[str, float]
    verdict: str  # begins with "good", "usable" or "not good enough"
    alarms: tuple[str, ...]  # where the judges disagree


def score(model: Measures, floor: Measures, noise: Measures) -> Scores:
    """Compare a model's measures with those of photos and of noise, of the same protocol."""
    measures = {
        name: _score(name, value, floor[name], noise[name])
        for name, value in model.items()
        if name in floor and name in noise  # no background is measured where there is none
    }
    judges = _by_judge(measures)
    aspects = {aspect: min(scores.values()) for aspect, scores in judges.items()}
    overall = math.exp(mean(math.log(x + SHIFT) for x in aspects.values())) - SHIFT
    return Scores(
        score=overall,
        aspects=aspects,
        measures=measures,
        verdict=_verdict(overall, aspects),
        alarms=_alarms(judges),
    )


def _stem(name: str) -> str:
    """The measure without the network's name."""
    stems = (stem for stems in ASPECTS.values() for stem in stems)
    return next(stem for stem in stems if name == stem or name.startswith(f"{stem}_"))


def _score(name: str, value: float, floor: float, noise: float) -> float:
    if _stem(name) in SQUARED_DISTANCES:
        value, floor, noise = (math.sqrt(max(x, 0.0)) for x in (value, floor, noise))
    if floor == noise:
        return 100.0 if value == floor else 0.0
    return 100 * min(1.0, max(0.0, (noise - value) / (noise - floor)))


def _verdict(overall: float, aspects: dict[str, float]) -> str:
    weakest = min(aspects, key=lambda aspect: aspects[aspect])
    reason = f"{REASONS[weakest]} ({weakest} {aspects[weakest]:.0f} of 100)"
    if overall >= GOOD:
        return "good"
    if overall >= USABLE:
        return f"usable: {reason}"
    return f"not good enough: {reason}; train longer or add photos"


def _by_judge(measures: dict[str, float]) -> dict[str, dict[str, float]]:
    """Scores by aspect and judge; the judge of measures without a network is called ""."""
    found: dict[str, dict[str, list[float]]] = {}
    for aspect, stems in ASPECTS.items():
        for name, value in measures.items():
            if (stem := _stem(name)) in stems:
                judge = name.removeprefix(stem).removeprefix("_")
                found.setdefault(aspect, {}).setdefault(judge, []).append(value)
    return {
        aspect: {judge: mean(scores) for judge, scores in judges.items()}
        for aspect, judges in found.items()
    }


def _alarms(judges: dict[str, dict[str, float]]) -> tuple[str, ...]:
    """A sentence for each aspect on which two judges are far apart."""
    alarms = []
    for aspect, scores in judges.items():
        mild, strict = (pick(scores, key=lambda judge: scores[judge]) for pick in (max, min))
        if scores[mild] - scores[strict] > DISAGREEMENT:
            alarms.append(
                f"the judges disagree on {aspect}: {mild} {scores[mild]:.0f}, "
                f"{strict} {scores[strict]:.0f}"
            )
    return tuple(alarms)
