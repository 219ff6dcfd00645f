"""POST /generate: product images, at once."""

import base64
import hashlib
import secrets
import time
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Response
from fastapi.openapi.models import Example

from app.auth import require
from app.dependencies import MetricsDep, RegistryDep, SamplerDep, SettingsDep
from app.errors import Problem
from app.schemas import GeneratedImage, GenerateRequest, GenerateResponse, Timing
from models.images import (
    MEDIA_TYPES,
    Enhancement,
    ImageFormat,
    Pixels,
    Provenance,
    encode,
    enhance,
    resize,
)
from models.sample import even_label
from worker.jobs import new_id
from worker.model_versions import ModelCard

router = APIRouter(tags=["generate"], dependencies=[Depends(require("generate"))])

FRESH_SEED_BITS = 53  # what every JSON client can hold exactly
EXAMPLES: dict[str, Example] = {
    "least": {"summary": "One image of the default model", "value": {}},
    "sneakers": {
        "summary": "Eight sneakers, the same ones at each call",
        "value": {"category": "Sneaker", "n": 8, "seed": 7, "output_format": "webp"},
    },
}


@router.post("/generate", response_model=GenerateResponse)
def generate(
    request: Annotated[GenerateRequest, Body(openapi_examples=EXAMPLES)],
    registry: RegistryDep,
    sampler: SamplerDep,
    settings: SettingsDep,
    metrics: MetricsDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> GenerateResponse | Response:
    """Generate product images. The same seed and version give the same bytes, at any `n`.

    With `Accept: image/png`, `image/webp`, ... and `n` 1 the answer is the image itself.
    """
    bare = _bare_format(accept, request)
    output_format = bare or request.output_format
    reference = settings.default_model if request.model is None else request.model
    card = registry.resolve(reference)
    _check_capabilities(request, output_format)
    first = request.seed if request.seed is not None else secrets.randbits(FRESH_SEED_BITS)
    seeds = range(first, first + request.n)
    labels = _labels(request, card, seeds)
    sampled = sampler.sample(card, seeds, labels, request.truncation)

    started = time.perf_counter()
    side = request.side or sampled.pixels.shape[1]
    files = [
        _file(pixels, request, output_format, _provenance(card, seed))
        for pixels, seed in zip(sampled.pixels, seeds, strict=True)
    ]
    metrics.encode_seconds.observe(time.perf_counter() - started)
    if bare:
        return Response(files[0], media_type=MEDIA_TYPES[bare])
    data = [
        _item(index, seed, card.categories[label], content, side)
        for index, (seed, label, content) in enumerate(zip(seeds, labels, files, strict=True))
    ]
    return GenerateResponse(
        id=new_id("gen"),
        model=card.name,
        model_version=card.version,
        data=data,
        timing=Timing(
            queue_ms=round(sampled.queue_ms, 2),
            compute_ms=round(sampled.compute_ms, 2),
            encode_ms=round(1000 * (time.perf_counter() - started), 2),
        ),
        metadata=request.metadata,
    )


def _provenance(card: ModelCard, seed: int) -> Provenance:
    return Provenance(model=card.name, version=card.version, seed=seed)


def _file(
    pixels: Pixels, request: GenerateRequest, output_format: ImageFormat, provenance: Provenance
) -> bytes:
    """One sampled image as the client wants it."""
    pixels = enhance(pixels, Enhancement(**request.enhance.model_dump()))
    if request.side is not None:
        pixels = resize(pixels, (request.side, request.side))
    compression = 85 if request.output_compression is None else request.output_compression
    return encode(pixels, output_format, compression=compression, provenance=provenance)


def _item(index: int, seed: int, category: str, content: bytes, side: int) -> GeneratedImage:
    return GeneratedImage(
        index=index,
        seed=seed,
        category=category,
        b64_json=base64.b64encode(content).decode(),
        url=None,
        sha256=hashlib.sha256(content).hexdigest(),
        width=side,
        height=side,
    )


def _labels(request: GenerateRequest, card: ModelCard, seeds: range) -> list[int]:
    if request.category is None:
        return [even_label(seed, len(card.categories)) for seed in seeds]
    if request.category not in card.categories:
        known = ", ".join(card.categories)
        raise Problem(422, "unknown_category", f"category: {card.name} knows {known}")
    return [card.categories.index(request.category)] * request.n


def _bare_format(accept: str, request: GenerateRequest) -> ImageFormat | None:
    """The format of the bare image, where the client takes no JSON; None where it does."""
    kinds = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if not accept or kinds & {"*/*", "application/*", "application/json"}:
        return None
    # Where the body names no format, the header alone decides.
    named = "output_format" in request.model_fields_set or "image/*" in kinds
    offered: list[ImageFormat] = [request.output_format] if named else list(MEDIA_TYPES)
    for name in offered if request.n == 1 else []:
        if kinds & {"image/*", MEDIA_TYPES[name]}:
            return name
    raise Problem(
        406,
        "not_acceptable",
        "This answers application/json and, for n = 1, image/png, jpeg, webp or avif.",
    )


def _check_capabilities(request: GenerateRequest, output_format: ImageFormat) -> None:
    """What no model here can do yet is refused, never ignored."""
    refused = {
        "attributes": bool(request.attributes),
        "background": request.background is not None,
        "response_format": request.response_format == "url",
        "output_compression": request.output_compression is not None and output_format == "png",
    }
    for name, asked in refused.items():
        if asked:
            raise Problem(
                422, "unsupported_parameter", f"{name}: this model or format does not offer it"
            )
