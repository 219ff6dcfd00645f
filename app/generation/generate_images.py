"""Synchronous generation of one request: option checks, sampling, rendering, zip archive."""

import hashlib
import io
import json
import secrets
import time
import zipfile
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive

from app.errors import Problem
from app.generation.batching import PendingImages
from app.generation.sampler import Sampler
from app.schemas import MAX_SYNCHRONOUS_IMAGES, GenerateRequest, Timing
from models.data.category_names import index_of
from models.imaging.encoding import Provenance
from models.imaging.pixels import Pixels
from models.imaging.rendering import Rendering, render
from models.inference.engine import Engine
from worker.generation.bulk_generation import MANIFEST, labels_of, rendering_of
from worker.registry.model_versions import ModelCard
from worker.schemas.image_options import ImageOptions
from worker.schemas.jobs import new_id

FRESH_SEED_BITS = 53  # the integers that every JSON client represents exactly


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Why an image was chosen among those of several seeds."""

    probability: float  # that it shows its category
    rejected: list[int]  # seeds that were tried before


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """One encoded image."""

    index: int
    seed: int
    category: str
    content: bytes
    sha256: str  # of the content, hex
    choice: Choice | None = None  # with `min_category_probability`


@dataclass(frozen=True, kw_only=True)
class Generated:
    """All images of one request, and what its answer holds beside them."""

    id: str
    created: int  # Unix time, s
    seed: int  # of the first image, before any was rejected
    card: ModelCard
    files: list[GeneratedFile]
    rendering: Rendering
    side: int  # px
    timing: Timing
    urls: list[str] | None = None  # of the files, where the request asks for links


async def generate_images(
    receive: Receive, sampler: Sampler, request: GenerateRequest, card: ModelCard
) -> Generated:
    """Generate the images of one request with one model version; raises Problem."""
    engine = await sampler.engine(card)
    pending = PendingGeneration.of(request, card, rendering_of(request), engine)
    await sampler.wait(pending.images, receive)
    return pending.result()


@dataclass(frozen=True, kw_only=True)
class PendingGeneration:
    """One request whose images are being generated."""

    card: ModelCard
    rendering: Rendering
    images: PendingImages[GeneratedFile]

    @classmethod
    def of(
        cls, request: GenerateRequest, card: ModelCard, rendering: Rendering, engine: Engine
    ) -> "PendingGeneration":
        """Build it from a request; raises Problem (422) on too many images."""
        if request.n > MAX_SYNCHRONOUS_IMAGES:
            raise Problem(
                422,
                "invalid_request",
                f"n: must be at most {MAX_SYNCHRONOUS_IMAGES} at once; for more, send Prefer:"
                " respond-async, or POST /jobs/generate",
            )
        first = fresh_seed() if request.seed is None else request.seed
        seeds = range(first, first + request.n)
        labels = labels_of(first, request.wanted, card.categories)

        images = PendingImages(
            model=card.name,
            version=card.version,
            engine=engine,
            seeds=seeds,
            labels=labels,
            truncation=request.truncation,
            finish=lambda index, pixels: pending.file(index, seeds[index], pixels),
        )
        pending = cls(card=card, rendering=rendering, images=images)
        return pending

    def file(self, index: int, seed: int, pixels: Pixels) -> GeneratedFile:
        """An image of the request as a file, made with this seed."""
        card = self.card
        origin = Provenance(model=card.name, version=card.version, seed=seed)
        content = render(pixels, self.rendering, origin)
        return GeneratedFile(
            index=index,
            seed=seed,
            category=card.categories[self.images.labels[index]],
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def result(self) -> Generated:
        """The images, once all of them are done."""
        images = self.images
        return Generated(
            id=new_id("gen"),
            created=int(time.time()),
            seed=images.seeds[0],
            card=self.card,
            files=[images.files[index] for index in range(len(images.seeds))],
            rendering=self.rendering,
            side=self.rendering.side or images.engine.config.resolution,
            timing=Timing(
                queue_ms=round(1000 * images.queue_s, 2),
                compute_ms=round(1000 * images.compute_s, 2),
                encode_ms=round(1000 * images.encode_s, 2),
            ),
        )


def zipped(generated: Generated) -> bytes:
    """A zip of the images and a manifest; the same images give the same bytes."""
    target = io.BytesIO()
    lines = []
    with zipfile.ZipFile(target, "w") as archive:  # stored: images are compressed already
        for file in generated.files:
            name = f"{file.index:02d}.{generated.rendering.image_format}"
            archive.writestr(zipfile.ZipInfo(name), file.content)  # dated 1980, not now
            told: dict[str, Any] = {
                "seed": file.seed,
                "category": file.category,
                "sha256": file.sha256,
            }
            told |= choice_fields(file)
            lines.append(json.dumps({"file": name, **told}) + "\n")
        archive.writestr(zipfile.ZipInfo(MANIFEST), "".join(lines))
    return target.getvalue()


def choice_fields(file: GeneratedFile) -> dict[str, Any]:
    """What an answer with `min_category_probability` tells of an image more than another."""
    if file.choice is None:
        return {}
    return {
        "category_probability": round(file.choice.probability, 6),
        "rejected_seeds": file.choice.rejected,
    }


def fresh_seed() -> int:
    """A random seed, for requests without one."""
    return secrets.randbits(FRESH_SEED_BITS)


def check_options(options: ImageOptions, card: ModelCard) -> None:
    """Refuse options that the model version or the format does not support; raises Problem."""
    if options.category is not None:
        check_category(options.category, card)
    lossless = options.output_format == "png"
    refused = {
        "attributes": bool(options.attributes),
        "background": options.background is not None,
        "output_compression": options.output_compression is not None and lossless,
        "min_category_probability": options.min_category_probability is not None
        and not card.capabilities.get("min_category_probability"),
    }
    for name, asked in refused.items():
        if asked:
            raise Problem(
                422, "unsupported_parameter", f"{name}: this model or format does not offer it"
            )


def check_category(category: str, card: ModelCard) -> None:
    """Refuse a category that the model version does not have; raises Problem."""
    if index_of(category, card.categories) is None:
        known = ", ".join(card.categories)
        raise Problem(422, "unknown_category", f"category: {card.name} knows {known}")
