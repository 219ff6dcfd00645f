"""The panel's report of a generator: measures, scores and a verdict in plain words.

Generated images are uint8, from the EMA weights in eval mode with full z, without selection or
enhancement; as many as photos are held out, of the same categories.

Shapes: N images, C channels, R resolution in pixels.
"""

import math
import time
from dataclasses import dataclass

from torch import Tensor

from models.data.datasets import Dataset
from models.evaluation.extractors import See, see_all
from models.evaluation.generation import FIRST_SEED, generate_steps, generation_speed
from models.evaluation.memorisation import Memorisation, neighbour_sheet
from models.evaluation.panel import (
    NOISE_IMAGES,
    Panel,
    Reference,
    Scale,
    View,
    build_reference,
    build_scale,
)
from models.evaluation.scores import Measures
from models.networks.gan import Generator
from models.progress import Steps, run, scaled

MOST_TRAINING_PHOTOS = 3000  # that the panel looks at, for the probe, the floor and memorisation
MOST_HELD_OUT_PHOTOS = 2000
FEWEST_PHOTOS = 64  # of either, however little time there is
PROBED = 4  # images, to measure the panel's speed
LOOKING_SHARE = 0.6  # of the time; the measures take the rest
TRAINING_PARTS = 2.5  # training photos for each held-out photo, where time is short


@dataclass(frozen=True, kw_only=True)
class PanelReport:
    """What the panel says of a model; two reports compare only if their `protocol` is equal."""

    protocol: dict[str, str | int | dict[str, str]]
    model: Measures
    intervals: dict[str, list[float]]  # 95 %: low and high, of some of the model's measures
    floor: Measures  # of photos in place of generated images
    noise: Measures
    score: float  # overall, from 0 (noise) to 100 (photos); see `models.evaluation.scores`
    aspects: dict[str, float]  # scores by aspect
    scores: dict[str, float]  # by measure
    verdict: str
    alarms: list[str]  # where the judges disagree
    memorisation: dict[str, Memorisation]  # by network


@dataclass(frozen=True, kw_only=True)
class PanelJudge:
    """The panel with the photos that it compares images with."""

    reference: Reference
    scale: Scale
    held_out: Dataset
    seconds_per_look: float  # at one image

    def judge(self, generator: Generator) -> Steps[PanelReport]:
        """Compare a generator of the photos' categories with the held-out photos."""
        return (yield from self.evaluate(generator))[0]

    def evaluate(self, generator: Generator) -> Steps[tuple[PanelReport, bytes]]:
        """As `judge`, and a PNG sheet of the images beside their nearest training photos."""
        images = yield from scaled(generate_steps(generator, self.held_out), 0.0, 0.2)
        view = yield from scaled(self._look(images), 0.2, 0.8)
        return self._report(view), self._neighbours(view)

    def judge_images(self, images: Tensor) -> Steps[PanelReport]:
        """Compare uint8 images (N, C, R, R) of the held-out photos' categories, in their order."""
        view = yield from scaled(self._look(images), 0.0, 0.8)
        return self._report(view)

    def kid(self, report: PanelReport) -> float:
        """KID by the first network, in whose features categories are told apart too."""
        return report.model[f"kid_{self.reference.panel.extractors[0].name}"]

    def seconds(self, generator: Generator) -> float:
        """Expected duration of `judge` on this machine."""
        each = self.seconds_per_look / LOOKING_SHARE + 1 / generation_speed(generator)
        return len(self.held_out.labels) * each

    def _look(self, images: Tensor) -> Steps[View]:
        return self.reference.panel.look(images, self.reference.held_out.labels)

    def _report(self, view: View) -> PanelReport:
        reference = self.reference
        judgement = reference.judge(view)
        scores = self.scale.score(judgement.measures)
        return PanelReport(
            protocol={
                "judges": reference.panel.identity,
                "held_out_images": len(view.labels),
                "training_images": len(reference.training.labels),
                "first_seed": FIRST_SEED,
                "images": "uint8 of the EMA weights, full z, nothing selected or enhanced",
            },
            model=judgement.measures,
            intervals={name: [*ends] for name, ends in judgement.intervals.items()},
            floor=self.scale.floor,
            noise=self.scale.noise,
            score=scores.score,
            aspects=scores.aspects,
            scores=scores.measures,
            verdict=scores.verdict,
            alarms=[*scores.alarms],
            memorisation=judgement.memorisation,
        )

    def _neighbours(self, view: View) -> bytes:
        training, name = self.reference.training, self.reference.panel.extractors[0].name
        return neighbour_sheet(
            training.images, training.features[name], view.images, view.features[name]
        )


def open_judge(
    panel: Panel,
    training: Dataset,
    held_out: Dataset,
    seconds: float = math.inf,
    judgements: int = 1,
    see: See = see_all,
) -> Steps[PanelJudge]:
    """Look at the photos, at fewer of them where `seconds` are too few for all.

    `seconds` are for this and for so many judgements. `see` may remember the photos.
    """
    each = seconds_per_look(panel, held_out)
    parts = 1.5 + TRAINING_PARTS + judgements  # the noise is half a part

    def affordable() -> float:
        return LOOKING_SHARE * seconds / each / parts

    held_out = held_out.select(held_out.spaced(_within(affordable(), MOST_HELD_OUT_PHOTOS)))
    began = time.monotonic()
    compared = yield from scaled(panel.look(held_out.images, held_out.labels, see), 0.0, 0.2)
    # A probe of a few images tells little on a busy machine.
    each = max(each, (time.monotonic() - began) / len(held_out.labels))
    kept = held_out.spaced(_within(affordable(), MOST_HELD_OUT_PHOTOS))
    held_out, compared = held_out.select(kept), compared.select(kept)
    most = _within(TRAINING_PARTS * affordable(), MOST_TRAINING_PHOTOS)
    training = training.select(training.spaced(most))
    seen = yield from scaled(panel.look(training.images, training.labels, see), 0.2, 0.8)
    reference = build_reference(panel, seen, compared, len(training.categories))
    scale = yield from scaled(build_scale(reference), 0.85)
    return PanelJudge(reference=reference, scale=scale, held_out=held_out, seconds_per_look=each)


def expected_seconds(panel: Panel, training: Dataset, held_out: Dataset) -> tuple[float, float]:
    """Durations of `open_judge` and of one `judge` without a limit, on this machine."""
    fitted = min(MOST_TRAINING_PHOTOS, len(training.labels))
    judged = min(MOST_HELD_OUT_PHOTOS, len(held_out.labels))
    each = seconds_per_look(panel, held_out) / LOOKING_SHARE
    return (fitted + judged + NOISE_IMAGES) * each, judged * each


def seconds_per_look(panel: Panel, photos: Dataset) -> float:
    """How long the panel looks at one image on this machine."""
    few = photos.select(photos.spaced(PROBED))
    run(panel.look(few.images[:1], few.labels[:1]))  # opens the networks
    began = time.perf_counter()
    run(panel.look(few.images, few.labels))
    return (time.perf_counter() - began) / len(few.labels)


def _within(affordable: float, most: int) -> float:
    return max(FEWEST_PHOTOS, min(most, affordable))
