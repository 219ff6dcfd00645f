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
from models.evaluation.evaluation import EvaluationSet
from models.evaluation.extractors import CnnExtractor, report_extractors
from models.evaluation.generation import FIRST_SEED, generate_steps
from models.evaluation.memorisation import Memorisation
from models.evaluation.panel import (
    NOISE_IMAGES,
    Panel,
    Reference,
    Scale,
    build_reference,
    build_scale,
)
from models.evaluation.scores import Measures
from models.networks.gan import Generator
from models.progress import Steps, run, scaled

MOST_TRAINING_PHOTOS = 1000  # that the panel looks at, for the probe, the floor and memorisation
MOST_HELD_OUT_PHOTOS = 500
FEWEST_PHOTOS = 64  # of either, however little time there is
PROBED = 4  # images, to measure the panel's speed
LOOKING_SHARE = 0.6  # of the time; the measures take the rest


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

    def judge(self, generator: Generator) -> Steps[PanelReport]:
        """Compare a generator of the photos' categories with the held-out photos."""
        steps = generate_steps(generator, self.held_out)
        images = yield from scaled(steps, 0.0, 0.2)
        return (yield from scaled(self.judge_images(images), 0.2))

    def judge_images(self, images: Tensor) -> Steps[PanelReport]:
        """Compare uint8 images (N, C, R, R) of the held-out photos' categories, in their order."""
        reference = self.reference
        labels = reference.held_out.labels
        view = yield from scaled(reference.panel.look(images, labels), 0.0, 0.8)
        judgement = reference.judge(view)
        scores = self.scale.score(judgement.measures)
        return PanelReport(
            protocol={
                "judges": reference.panel.identity,
                "held_out_images": len(labels),
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


def panel_of(photos: EvaluationSet) -> Panel:
    """The judges of colour images, or of grey ones: the CNN that was fitted on the photos."""
    is_grey = photos.training.images.shape[1] == 1
    return Panel((CnnExtractor(photos.extractor),) if is_grey else report_extractors())


def open_judge(photos: EvaluationSet, seconds: float = math.inf) -> Steps[PanelJudge]:
    """Look at the photos, at fewer of them where `seconds` are too few for all.

    `seconds` are for this and for judging one generator.
    """
    panel = panel_of(photos)
    looks = LOOKING_SHARE * seconds / seconds_per_look(panel, photos.held_out)
    training, held_out = photos.training, photos.held_out
    training = training.select(training.spaced(_within(looks / 2, MOST_TRAINING_PHOTOS)))
    held_out = held_out.select(held_out.spaced(_within(looks / 5, MOST_HELD_OUT_PHOTOS)))
    reference = yield from scaled(build_reference(panel, training, held_out), 0.0, 0.8)
    scale = yield from scaled(build_scale(reference), 0.8)
    return PanelJudge(reference=reference, scale=scale, held_out=held_out)


def judging_seconds(photos: EvaluationSet) -> float:
    """Expected duration of `open_judge` and one `judge` without a limit, on this machine."""
    fitted = min(MOST_TRAINING_PHOTOS, len(photos.training.labels))
    judged = min(MOST_HELD_OUT_PHOTOS, len(photos.held_out.labels))
    looks = fitted + 2 * judged + NOISE_IMAGES
    return looks * seconds_per_look(panel_of(photos), photos.held_out) / LOOKING_SHARE


def seconds_per_look(panel: Panel, photos: Dataset) -> float:
    """How long the panel looks at one image on this machine."""
    few = photos.select(photos.spaced(PROBED))
    run(panel.look(few.images[:1], few.labels[:1]))  # opens the networks
    began = time.perf_counter()
    run(panel.look(few.images, few.labels))
    return (time.perf_counter() - began) / len(few.labels)


def _within(affordable: float, most: int) -> float:
    return max(FEWEST_PHOTOS, min(most, affordable))
