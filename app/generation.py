"""Images at once: what is wanted of which version, sampled, rendered and wrapped."""

import hashlib
import io
import json
import secrets
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Receive

from app.batching import Order
from app.dependencies import SamplerDep
from app.errors import Problem
from app.sampling import Sampler
from app.schemas import MAX_SYNCHRONOUS_IMAGES, GenerateRequest, Timing
from models.engine import Engine
from models.images import Pixels, Provenance
from models.rendering import Rendering, render
from worker.generating import MANIFEST, labels_of
from worker.image_options import ImageOptions
from worker.model_versions import ModelCard

FRESH_SEED_BITS = 53  # what every JSON client can hold exactly


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """One image, packed."""

    index: int
    seed: int
    category: str
    content: bytes
    sha256: str  # of the content, hex


@dataclass(frozen=True, kw_only=True)
class Generated:
    """All images of one request."""

    card: ModelCard
    files: list[GeneratedFile]
    rendering: Rendering
    side: int  # px
    timing: Timing


MakeImages = Callable[[GenerateRequest, ModelCard, Rendering], Awaitable[Generated]]


async def images_for(client: Request, sampler: SamplerDep) -> MakeImages:
    """Makes the images of a request, of one version, as long as the client waits for them."""
    return partial(generate_images, client.receive, sampler)


ImagesDep = Annotated[MakeImages, Depends(images_for)]


async def generate_images(
    receive: Receive,
    sampler: Sampler,
    request: GenerateRequest,
    card: ModelCard,
    rendering: Rendering,
) -> Generated:
    """The images of one request, of one version; raises Problem where they cannot be had."""
    engine = await sampler.engine(card)
    making = Making.of(request, card, rendering, engine)
    await sampler.wait(making.order, receive)
    return making.result()


@dataclass(frozen=True, kw_only=True)
class Making:
    """The images of one request, in the making."""

    card: ModelCard
    rendering: Rendering
    order: Order[GeneratedFile]

    @classmethod
    def of(
        cls, request: GenerateRequest, card: ModelCard, rendering: Rendering, engine: Engine
    ) -> "Making":
        """What is to be made; raises Problem (422) where that is too much."""
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

        def finish(index: int, pixels: Pixels) -> GeneratedFile:
            origin = Provenance(model=card.name, version=card.version, seed=seeds[index])
            content = render(pixels, rendering, origin)
            return GeneratedFile(
                index=index,
                seed=seeds[index],
                category=card.categories[labels[index]],
                content=content,
                sha256=hashlib.sha256(content).hexdigest(),
            )

        order = Order(
            model=card.name,
            version=card.version,
            engine=engine,
            seeds=seeds,
            labels=labels,
            truncation=request.truncation,
            finish=finish,
        )
        return cls(card=card, rendering=rendering, order=order)

    def result(self) -> Generated:
        """The images, once the order is done."""
        order = self.order
        return Generated(
            card=self.card,
            files=[order.files[index] for index in range(len(order.seeds))],
            rendering=self.rendering,
            side=self.rendering.side or order.engine.config.resolution,
            timing=Timing(
                queue_ms=round(1000 * order.queue_s, 2),
                compute_ms=round(1000 * order.compute_s, 2),
                encode_ms=round(1000 * order.encode_s, 2),
            ),
        )


def zipped(generated: Generated) -> bytes:
    """The images and a manifest, the same bytes each time."""
    target = io.BytesIO()
    lines = []
    with zipfile.ZipFile(target, "w") as archive:  # stored: images are packed already
        for file in generated.files:
            name = f"{file.index:02d}.{generated.rendering.image_format}"
            archive.writestr(zipfile.ZipInfo(name), file.content)  # dated 1980
            told = {"seed": file.seed, "category": file.category, "sha256": file.sha256}
            lines.append(json.dumps({"file": name, **told}) + "\n")
        archive.writestr(zipfile.ZipInfo(MANIFEST), "".join(lines))
    return target.getvalue()


def fresh_seed() -> int:
    """A seed that nobody has asked for."""
    return secrets.randbits(FRESH_SEED_BITS)


def check_options(options: ImageOptions, card: ModelCard) -> None:
    """Refuse what this version does not know, or no version here can do; raises Problem."""
    if options.category is not None:
        check_category(options.category, card)
    lossless = options.output_format == "png"
    refused = {
        "attributes": bool(options.attributes),
        "background": options.background is not None,
        "output_compression": options.output_compression is not None and lossless,
    }
    for name, asked in refused.items():
        if asked:
            raise Problem(
                422, "unsupported_parameter", f"{name}: this model or format does not offer it"
            )


def check_category(category: str, card: ModelCard) -> None:
    """Refuse what the version does not know; raises Problem."""
    if category not in card.categories:
        known = ", ".join(card.categories)
        raise Problem(422, "unknown_category", f"category: {card.name} knows {known}")
