"""Response formats of generated images: JSON, the image itself, or a zip."""

from typing import Any

import orjson
from fastapi import Response
from pybase64 import b64encode_as_string
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.errors import Problem
from app.generation.generate_images import Generated, check_options, choice_fields, zipped
from app.generation.idempotent_generation import ImagesWanted, MakeImages
from app.generation.negotiation import preferred
from app.schemas import GenerateRequest
from models.imaging.encoding import MEDIA_TYPES, ImageFormat
from worker.registry.model_versions import ModelCard

JSON_TYPE, ZIP_TYPE = "application/json", "application/zip"
FORMATS: dict[str, ImageFormat] = {media_type: name for name, media_type in MEDIA_TYPES.items()}


def form_of(accept: str, request: GenerateRequest, *, later: bool) -> str:
    """The media type of the answer; raises Problem (406) if the client accepts none of ours."""
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


async def answer(request: GenerateRequest, form: str, make: MakeImages) -> Response:
    """Generate the images and build the response; raises Problem."""

    async def settle(card: ModelCard) -> GenerateRequest:
        return with_output_format(request, card, form)

    sent = f"{form}\n{request.model_dump_json()}".encode()
    generated = await make(ImagesWanted(model=request.model, body=sent, settle=settle))
    if form == ZIP_TYPE:
        return Response(await run_in_threadpool(zipped, generated), media_type=ZIP_TYPE)
    return Response(encode_body(request, generated, form), media_type=form)


def with_output_format(request: GenerateRequest, card: ModelCard, form: str) -> GenerateRequest:
    """The request with the form's output format, checked against the version; raises Problem.

    Only JSON holds links.
    """
    if form in FORMATS:
        request = request.model_copy(update={"output_format": FORMATS[form]})
    if form != JSON_TYPE:
        request = request.model_copy(update={"response_format": "b64_json"})
    check_options(request, card)
    return request


def encode_body(request: GenerateRequest, generated: Generated, form: str) -> bytes:
    """Body of an answer that is JSON, or the one image itself."""
    if form in FORMATS:
        return generated.files[0].content
    return _json_body(request, generated)


def _json_body(request: GenerateRequest, generated: Generated) -> bytes:
    """A `GenerateResponse` as JSON, built from checked parts.

    pydantic takes several times as long: milliseconds if there are many images, in which other
    requests wait for the event loop.
    """
    whole = {
        "id": generated.id,
        "model": generated.card.name,
        "model_version": generated.card.version,
        "data": _items(generated),
        "timing": vars(generated.timing),
        "metadata": orjson.Fragment(to_json(request.metadata)),  # orjson refuses large integers
    }
    return orjson.dumps(whole)


def _items(generated: Generated) -> list[dict[str, Any]]:
    """The fields of a `GeneratedImage` for each image."""
    urls = generated.urls
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
            **choice_fields(file),
        }
        for file in generated.files
    ]
