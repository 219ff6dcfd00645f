"""Sampling for bulk generation: the pixels of many images, without those that are rejected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from models.checkpoint import Model
from models.classification.photo_classifier import PhotoClassifier
from models.classification.tried_seeds import TRIES, tried_seed
from models.imaging.pixels import Pixels
from models.imaging.rendering import Rendering
from models.inference.engine import Engine, open_engine
from models.inference.sample import latents
from worker.generation.image_counter import ImageCounter


@dataclass(frozen=True, kw_only=True)
class BulkRequest:
    """The images to generate: image i has seed `seed + i` and category `labels[i]`."""

    seed: int
    labels: Sequence[int]
    truncation: float
    rendering: Rendering
    min_category_probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Rejects images that show their category less surely than `minimum`."""

    classifier: PhotoClassifier
    minimum: float
    places: Sequence[int]  # of the model's categories among the classifier's

    def passes(self, images: Pixels, labels: Sequence[int]) -> list[bool]:
        """Whether each of the images (N, R, R, C) shows its category."""
        found = self.classifier.probabilities(images, torch.get_num_threads())
        places = torch.tensor([self.places[label] for label in labels])
        shown = found.gather(1, places[:, None])[:, 0]
        return [probability >= self.minimum for probability in shown.tolist()]


@dataclass(frozen=True)
class Sampled:
    """The pixels (R, R, C) that a seed makes."""

    seed: int
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class BulkSampler:
    """Samples the images of a request, a batch at a time."""

    engine: Engine
    bulk: BulkRequest
    counter: ImageCounter
    chosen_by: Filter | None

    @classmethod
    def of(
        cls, model: Model, bulk: BulkRequest, counter: ImageCounter, chosen_by: Filter | None
    ) -> "BulkSampler":
        """The sampler of a model, with its fastest engine."""
        engine = open_engine(model.generator)
        return cls(engine=engine, bulk=bulk, counter=counter, chosen_by=chosen_by)

    def sampled(self, pending: Sequence[int]) -> Iterator[Sampled | None]:
        """The images with the indices `pending`, in that order; None where no seed passes."""
        for start in range(0, len(pending), self.engine.batch):
            batch = pending[start : start + self.engine.batch]
            found: dict[int, Sampled] = {}
            for number in range(1 if self.chosen_by is None else TRIES):
                left = [index for index in batch if index not in found]
                if not left:
                    break
                found |= self._round(left, number)
            yield from (found.get(index) for index in batch)

    def _round(self, indices: Sequence[int], number: int) -> dict[int, Sampled]:
        """The images that pass with the seed of this try."""
        bulk = self.bulk
        seeds = [tried_seed(bulk.seed + index, number) for index in indices]
        labels = [bulk.labels[index] for index in indices]
        z = latents(seeds, self.engine.config.z_dim, bulk.truncation)
        pixels = self.engine(z, torch.tensor(labels))
        self.counter.add(len(indices))
        passes = [True] * len(indices)
        if self.chosen_by is not None:
            passes = self.chosen_by.passes(pixels, labels)
        made = zip(indices, seeds, pixels, passes, strict=True)
        return {index: Sampled(seed, image) for index, seed, image, passed in made if passed}
