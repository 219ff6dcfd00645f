"""POST /generate: product images, at once; or later, for clients that prefer not to wait."""

import base64
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, Header, Response
from fastapi.openapi.models import Example
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.auth import require
from app.deferred import DeferDep
from app.dependencies import ResolverDep
from app.errors import Problem
from app.generation import Generated, ImagesDep, check_options, zipped
from app.negotiation import preferred
from app.published import PublishDep
from app.schemas import GeneratedImage, GenerateRequest, GenerateResponse, JobView, derived
from models.images import MEDIA_TYPES, ImageFormat
from worker.generating import rendering_of
from worker.jobs import new_id
from worker.requests import GenerateJob

router = APIRouter(tags=["generate"], dependencies=[Depends(require("generate"))])

Answer: TypeAlias = GenerateResponse | Response

JSON_TYPE, ZIP_TYPE = "application/json", "application/zip"
FORMATS: dict[str, ImageFormat] = {media_type: name for name, media_type in MEDIA_TYPES.items()}
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys([*FORMATS, ZIP_TYPE], BINARY)},
    202: {"model": JobView, "description": "With `Prefer: respond-async`: a job makes the images"},
}
EXAMPLES: dict[str, Example] = {
    "least": {"summary": "One image of the default model", "value": {}},
    "sneakers": {
        "summary": "Eight sneakers, the same ones at each call",
        "value": {"category": "Sneaker", "n": 8, "seed": 7, "output_format": "webp"},
    },
}


@dataclass(frozen=True)
class Preferences:
    """How a client wants to be answered."""

    accept: str
    later: bool


async def preferences(
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    prefer: Annotated[
        str, Header(max_length=500, description="`respond-async`: answer 202 with a job at once.")
    ] = "",
) -> Preferences:
    """By the headers `Accept` and `Prefer` (RFC 7240)."""
    asked = {part.split(";")[0].strip().lower() for part in prefer.split(",")}
    return Preferences(accept, "respond-async" in asked)


@router.post("/generate", response_model=GenerateResponse, responses=RESPONSES)
async def generate(
    request: Annotated[GenerateRequest, Body(openapi_examples=EXAMPLES)],
    preferences: Annotated[Preferences, Depends(preferences)],
    resolver: ResolverDep,
    make: ImagesDep,
    defer: DeferDep,
    publish: PublishDep,
) -> Answer:
    """Generate product images. The same seed and version give the same bytes, at any `n`.

    With `Accept: image/png`, `image/webp`, ... and `n` 1 the answer is the image itself, with
    `Accept: application/zip` a zip of all. With `Prefer: respond-async` a job makes them.
    """
    card = await resolver.find(request.model)
    form = _form(preferences, request)
    if preferences.later:
        job = derived(GenerateJob, request.model_dump(exclude={"response_format"}))
        view = await run_in_threadpool(defer, job, card)
        headers = {"Location": view.links["self"], "Preference-Applied": "respond-async"}
        return JSONResponse(view.model_dump(mode="json"), 202, headers)
    if form in FORMATS:
        request = request.model_copy(update={"output_format": FORMATS[form]})
    check_options(request, card)
    generated = await make(request, card, rendering_of(request))
    if form in FORMATS:
        return Response(generated.files[0].content, media_type=form)
    if form == ZIP_TYPE:
        return Response(await run_in_threadpool(zipped, generated), media_type=ZIP_TYPE)
    gen_id = new_id("gen")
    urls = None
    if request.response_format == "url":
        urls = await run_in_threadpool(publish, generated, gen_id)
    answer = GenerateResponse(
        id=gen_id,
        model=card.name,
        model_version=card.version,
        data=_items(generated, urls),
        timing=generated.timing,
        metadata=request.metadata,
    )
    # As it is: it was built from checked parts, and FastAPI would check it once more.
    return Response(answer.model_dump_json(), media_type=JSON_TYPE)


def _form(preferences: Preferences, request: GenerateRequest) -> str:
    """The media type of the answer."""
    offered = [JSON_TYPE]
    if not preferences.later:
        if request.n == 1:
            # Where the body names no format, the header alone decides.
            named = "output_format" in request.model_fields_set
            offered += [MEDIA_TYPES[request.output_format]] if named else FORMATS
        offered.append(ZIP_TYPE)
    form = preferred(preferences.accept, offered)
    if form is None:
        raise Problem(
            406,
            "not_acceptable",
            "This answers application/json, application/zip and, for n = 1, the image itself.",
        )
    return form


def _items(generated: Generated, urls: list[str] | None) -> list[GeneratedImage]:
    return [
        GeneratedImage(
            index=file.index,
            seed=file.seed,
            category=file.category,
            b64_json=base64.b64encode(file.content).decode() if urls is None else None,
            url=None if urls is None else urls[file.index],
            sha256=file.sha256,
            width=generated.side,
            height=generated.side,
        )
        for file in generated.files
    ]
