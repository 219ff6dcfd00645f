"""Generation with `min_category_probability`: images that do not show their category are rejected.

Each image tries seeds of its own (`models.classification.tried_seeds`), all that are left in one
round. The classifier judges the image as the model makes it, before it is enhanced or enlarged.
"""

from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive

from app.classification.classifier_cache import ClassifierCache
from app.errors import Problem
from app.generation.batching import PendingImages
from app.generation.generate_images import (
    Choice,
    Generated,
    GeneratedFile,
    PendingGeneration,
)
from app.generation.sampler import Sampler
from app.schemas import GenerateRequest
from models.classification.photo_classifier import PhotoClassifier
from models.classification.tried_seeds import TRIES, rejected_before, tried_seed
from models.imaging.pixels import Pixels
from worker.generation.bulk_generation import rendering_of
from worker.registry.model_versions import ModelCard


@dataclass(kw_only=True)
class CategoryFilter:
    """The images of one request that have passed, and the best probability of the others."""

    wanted: PendingGeneration
    classifier: PhotoClassifier
    minimum: float
    passed: dict[int, GeneratedFile] = field(default_factory=dict)
    best: dict[int, float] = field(default_factory=dict)

    def round(self, number: int) -> PendingImages[GeneratedFile | None]:
        """Try the images that have not passed with their next seeds."""
        images, indices = self.wanted.images, self.left
        seeds = [tried_seed(images.seeds[index], number) for index in indices]

        def finish(place: int, pixels: Pixels) -> GeneratedFile | None:
            index, seed = indices[place], seeds[place]
            probability = self._probability(index, pixels)
            self.best[index] = max(probability, self.best.get(index, 0.0))
            if probability < self.minimum:
                return None
            choice = Choice(
                probability=probability, rejected=rejected_before(images.seeds[index], seed)
            )
            return replace(self.wanted.file(index, seed, pixels), choice=choice)

        return PendingImages(
            model=images.model,
            version=images.version,
            engine=images.engine,
            seeds=seeds,
            labels=[images.labels[index] for index in indices],
            truncation=images.truncation,
            finish=finish,
        )

    @property
    def left(self) -> list[int]:
        """The indices of the images that have not passed."""
        return [i for i in range(len(self.wanted.images.seeds)) if i not in self.passed]

    def keep(self, images: PendingImages[GeneratedFile | None]) -> None:
        """Keep what has passed in a round, and add up its times."""
        passed = [file for file in images.files.values() if file is not None]
        self.passed |= {file.index: file for file in passed}
        whole = self.wanted.images
        whole.queue_s += images.queue_s
        whole.compute_s += images.compute_s
        whole.encode_s += images.encode_s

    def _probability(self, index: int, pixels: Pixels) -> float:
        name = self.wanted.card.categories[self.wanted.images.labels[index]]
        place = self.classifier.categories.index(name)
        return float(self.classifier.probabilities([pixels])[0, place])


async def generate_filtered(
    receive: Receive,
    sampler: Sampler,
    classifiers: ClassifierCache,
    request: GenerateRequest,
    card: ModelCard,
) -> Generated:
    """Generate images that show their categories.

    Raises:
        Problem: 422, an image has not passed with any of its seeds.
        BackboneChanged: the version's classifier was fitted with another release.
        CheckpointError: it is damaged.
    """
    assert request.min_category_probability is not None
    engine = await sampler.engine(card)
    chosen = CategoryFilter(
        wanted=PendingGeneration.of(request, card, rendering_of(request), engine),
        classifier=await run_in_threadpool(classifiers.of_version, card),
        minimum=request.min_category_probability,
    )
    for number in range(TRIES):
        images = chosen.round(number)
        await sampler.wait(images, receive)
        chosen.keep(images)
        sampler.batcher.metrics.rejected(card.name, len(chosen.left))
        if not chosen.left:
            break
    else:
        raise _too_few(chosen)
    chosen.wanted.images.files = chosen.passed
    return chosen.wanted.result()


def _too_few(chosen: CategoryFilter) -> Problem:
    count, passed = len(chosen.wanted.images.seeds), len(chosen.passed)
    best = max(chosen.best[index] for index in chosen.left)
    return Problem(
        422,
        "too_few_passed",
        f"min_category_probability: {passed} of {count} images reached {chosen.minimum:g} with one"
        f" of {TRIES} seeds each; the others reached {best:.4f} at most. Lower it, or ask for"
        " another category or model.",
    )
