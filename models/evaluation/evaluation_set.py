"""Held-out photos for comparing generators while they train, and a few cheap metrics.

Such comparisons choose among trainings, and so they are made in the features of a network that no
report uses. Generated images are uint8, from the EMA weights in eval mode with full z, without
selection or enhancement.

Long computations are progress generators; see `models.progress`.

Shapes: N images, D features.
"""

from dataclasses import dataclass

from torch import Tensor

from models.data.datasets import Dataset
from models.evaluation.extractors import Extractor, See, see_all
from models.evaluation.generation import FEWEST_IMAGES, generate_steps
from models.evaluation.metrics import diversity, kernel_distance, overlap
from models.evaluation.panel import Panel
from models.evaluation.panel_report import seconds_per_look
from models.networks.gan import Generator
from models.progress import Steps, run, scaled

QUICK_SEED = 2**41  # used during training, so that the final metrics come from other images
QUICK_PHOTOS = 200  # photos at most: a network looks at as many images each time
COLLAPSED = 0.5  # of the photos' diversity; below it, a generator counts as collapsed


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Training photos, and held-out photos with their features in one network."""

    extractor: Extractor
    training: Dataset
    held_out: Dataset
    features: Tensor  # of the held-out photos, (N, D)

    def compare(self, generator: Generator, first_seed: int) -> Steps[float]:
        """KID of images of the held-out photos' categories."""
        fake = yield from self._look_at_images(generator, first_seed)
        return kernel_distance(self.features, fake).value

    def quick_metrics(self, generator: Generator) -> dict[str, float]:
        """KID and others of a generator in training; `collapsed` is 1 on mode collapse, else 0."""
        labels, real = self.held_out.labels, self.features
        fake = run(self._look_at_images(generator, QUICK_SEED))
        shared, spread = overlap(real, fake), diversity(real, fake, labels, labels)
        return {
            f"kid_{self.extractor.name}": kernel_distance(real, fake).value,
            "precision": shared.precision,
            "recall": shared.recall,
            "coverage": shared.coverage,
            "diversity": spread,
            "collapsed": float(spread < COLLAPSED),
        }

    def _look_at_images(self, generator: Generator, first_seed: int) -> Steps[Tensor]:
        images = yield from scaled(generate_steps(generator, self.held_out, first_seed), 0.0, 0.5)
        return (yield from scaled(see_all(self.extractor, images), 0.5)).features


def look_at_photos(
    extractor: Extractor,
    training: Dataset,
    held_out: Dataset,
    most: float = QUICK_PHOTOS,
    see: See = see_all,
) -> Steps[EvaluationSet]:
    """Compute the features of at most `most` held-out photos, spaced over the categories."""
    held_out = held_out.select(held_out.spaced(most))
    seen = yield from see(extractor, held_out.images)
    return EvaluationSet(
        extractor=extractor, training=training, held_out=held_out, features=seen.features
    )


def photos_within(extractor: Extractor, photos: Dataset, seconds: float) -> float:
    """How many images a network can look at in `seconds` on this machine; some in any case."""
    return max(FEWEST_IMAGES, seconds / seconds_per_look(Panel((extractor,)), photos))
