"""The forms in which generated images are answered: JSON, the image itself, or a zip."""

from typing import Any

import orjson
from fastapi import Response
from pybase64 import b64encode_as_string
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.errors import Problem
from app.generation import Generated, MakeImages, check_options, zipped
from app.negotiation import preferred
from app.published import Publish
from app.schemas import GenerateRequest
from models.images import MEDIA_TYPES, ImageFormat
from worker.generating import rendering_of
from worker.jobs import new_id
from worker.model_versions import ModelCard

JSON_TYPE, ZIP_TYPE = "application/json", "application/zip"
FORMATS: dict[str, ImageFormat] = {media_type: name for name, media_type in MEDIA_TYPES.items()}


def form_of(accept: str, request: GenerateRequest, *, later: bool) -> str:
    """The media type of the answer; raises Problem (406) where the client takes none of ours."""
    form = preferred(accept, (JSON_TYPE,) if later else _offered(request))
    if form is None:
        raise Problem(
            406,
            "not_acceptable",
            "This answers application/json, application/zip and, for n = 1, the image itself.",
        )
    return form


def _offered(request: GenerateRequest) -> tuple[str, ...]:
    if request.n > 1:
        return JSON_TYPE, ZIP_TYPE
    # Where the body names no format, the header alone decides.
    named = "output_format" in request.model_fields_set
    images = (MEDIA_TYPES[request.output_format],) if named else FORMATS
    return JSON_TYPE, *images, ZIP_TYPE


async def answer(
    request: GenerateRequest,
    card: ModelCard,
    form: str,
    make: MakeImages,
    publish: Publish | None = None,
) -> Response:
    """Make the images and wrap them; raises Problem where they cannot be had.

    `publish` is only needed for what is to be answered with URLs.
    """
    request = suited(request, card, form)
    generated = await make(request, card, rendering_of(request))
    if form == ZIP_TYPE:
        return Response(await run_in_threadpool(zipped, generated), media_type=ZIP_TYPE)
    if form == JSON_TYPE and request.response_format == "url":
        assert publish is not None
        gen_id = new_id("gen")
        urls = await run_in_threadpool(publish, generated, gen_id)
        return Response(_told(request, generated, gen_id, urls), media_type=JSON_TYPE)
    return Response(packed(request, generated, form), media_type=form)


def suited(request: GenerateRequest, card: ModelCard, form: str) -> GenerateRequest:
    """The request as a form and a version have it; raises Problem where they cannot do it."""
    if form in FORMATS:
        request = request.model_copy(update={"output_format": FORMATS[form]})
    check_options(request, card)
    return request


def packed(request: GenerateRequest, generated: Generated, form: str) -> bytes:
    """The body of an answer that holds the images itself and is no zip."""
    if form in FORMATS:
        return generated.files[0].content
    return _told(request, generated, new_id("gen"), None)


def _told(
    request: GenerateRequest, generated: Generated, gen_id: str, urls: list[str] | None
) -> bytes:
    """A `GenerateResponse`, built from checked parts.

    pydantic takes several times as long for it, the milliseconds that other requests wait if there
    are many images.
    """
    whole = {
        "id": gen_id,
        "model": generated.card.name,
        "model_version": generated.card.version,
        "data": _items(generated, urls),
        "timing": vars(generated.timing),
        "metadata": orjson.Fragment(to_json(request.metadata)),  # its numbers may have any size
    }
    return orjson.dumps(whole)


def _items(generated: Generated, urls: list[str] | None) -> list[dict[str, Any]]:
    """Each a `GeneratedImage`."""
    return [
        {
            "index": file.index,
            "seed": file.seed,
            "category": file.category,
            "b64_json": b64encode_as_string(file.content) if urls is None else None,
            "url": None if urls is None else urls[file.index],
            "sha256": file.sha256,
            "width": generated.side,
            "height": generated.side,
        }
        for file in generated.files
    ]
