"""`POST /generate`: product images, synchronously or, with `Prefer: respond-async`, by a job."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Response
from fastapi.openapi.models import Example
from starlette.concurrency import run_in_threadpool

from app.dependencies import MakeImagesDep, ServicesDep, SubmitGenerationDep, require
from app.errors import can_answer
from app.generation.responses import FORMATS, ZIP_TYPE, answer, form_of
from app.routers.respond_async import RespondAsyncDep, accepted, can_accept
from app.schemas import GenerateRequest, GenerateResponse, derived
from worker.schemas.requests import GenerateJob

router = APIRouter(tags=["generate"], dependencies=[Depends(require("generate"))])

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys([*FORMATS, ZIP_TYPE], BINARY)},
    **can_accept("makes the images"),
    **can_answer(409),
}
EXAMPLES: dict[str, Example] = {
    "least": {"summary": "One image of the default model", "value": {}},
    "sneakers": {
        "summary": "Eight sneakers, the same ones at each call",
        "value": {"category": "Sneaker", "n": 8, "seed": 7, "output_format": "webp"},
    },
}


@router.post("/generate", response_model=GenerateResponse, responses=RESPONSES)
async def generate(
    request: Annotated[GenerateRequest, Body(openapi_examples=EXAMPLES)],
    later: RespondAsyncDep,
    services: ServicesDep,
    make: MakeImagesDep,
    submit: SubmitGenerationDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """Generate product images. The same seed and version give the same bytes, at any `n`.

    With `Accept: image/png`, `image/webp`, ... and `n` 1 the answer is the image itself, with
    `Accept: application/zip` a zip of all. With `Prefer: respond-async` a job makes them.
    """
    form = form_of(accept, request, later=later)
    if not later:
        return await answer(request, form, make)
    card = await services.resolver.find(request.model)
    job = derived(GenerateJob, request.model_dump(exclude={"response_format"}))
    return accepted(await run_in_threadpool(submit, job, card))
