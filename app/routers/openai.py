"""OpenAI-compatible endpoints: `POST /v1/images/generations` and `GET /v1/models`."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path
from pybase64 import b64encode_as_string
from pydantic import BaseModel, Field

from app.dependencies import JSON, MakeImagesDep, ServicesDep, require
from app.errors import Problem, can_answer
from app.generation.generate_images import check_options
from app.generation.idempotent_generation import ImagesWanted
from app.generation.prompts import Vocabulary, find_color
from app.schemas import MAX_SYNCHRONOUS_IMAGES, GenerateRequest, Strict, derived
from models.inference.sample import MAX_SEED
from worker.registry.model_versions import ModelCard
from worker.registry.registry import ModelNotFound
from worker.schemas.image_options import Side

router = APIRouter(prefix="/v1", tags=["openai"], dependencies=[Depends(require("generate"))])

EXAMPLE = {"prompt": "a sneaker on a white background", "n": 2, "size": "256x256"}


class ImagesRequest(Strict):
    """A request in OpenAI's format. Options without effect here are refused, except `user`."""

    prompt: str = Field(
        min_length=1,
        max_length=32_000,
        description="Names one of the categories, in full or by a synonym.",
    )
    model: str | None = Field(default=None, max_length=140)
    n: int | None = Field(default=1, ge=1, le=MAX_SYNCHRONOUS_IMAGES)
    size: Side | Literal["auto"] | None = "auto"
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: int | None = Field(default=None, ge=0, le=100)
    background: Literal["auto"] | None = None
    moderation: Literal["auto"] | None = None
    quality: Literal["auto", "standard"] | None = None
    stream: Literal[False] | None = None
    user: str | None = Field(default=None, max_length=512, description="Not kept.")
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Of our own: send it as `extra_body`."
    )


class ImageItem(BaseModel):
    """One image, and the category that the prompt named."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str


class ImagesResponse(BaseModel):
    """An answer in OpenAI's format."""

    created: int
    data: list[ImageItem]
    output_format: str
    size: str


class ModelItem(BaseModel):
    """A model in OpenAI's format."""

    id: str
    object: Literal["model"] = "model"
    created: int  # Unix time of the version that the bare name means
    owned_by: str = "vitrine"

    @classmethod
    def of(cls, model_id: str, card: ModelCard) -> "ModelItem":
        """The item of a version, under the reference that it was asked for by."""
        return cls(id=model_id, created=int(datetime.fromisoformat(card.created_at).timestamp()))


class ModelItems(BaseModel):
    """All models in OpenAI's format."""

    object: Literal["list"] = "list"
    data: list[ModelItem]


@router.get("/models", dependencies=[JSON])
def list_models(services: ServicesDep) -> ModelItems:
    """All models, by name."""
    data = []
    for name in services.registry.names():
        with suppress(ModelNotFound):  # deleted just now
            data.append(ModelItem.of(name, services.registry.resolve(name)))
    return ModelItems(data=data)


@router.get("/models/{model}", dependencies=[JSON])
def read_model(
    model: Annotated[str, Path(max_length=140, examples=["fashion-mnist"])], services: ServicesDep
) -> ModelItem:
    """One model, by `name`, `name@alias` or `name:version`."""
    return ModelItem.of(model, services.registry.resolve(model))


@router.post("/images/generations", responses=can_answer(409), dependencies=[JSON])
async def create_images(
    body: Annotated[ImagesRequest, Body(openapi_examples={"sneaker": {"value": EXAMPLE}})],
    make: MakeImagesDep,
    services: ServicesDep,
) -> ImagesResponse:
    """Generate images from a request in OpenAI's format.

    The prompt must name a category, which `revised_prompt` repeats, by its name, a synonym of the
    model's or a built-in word of one of ten languages. It may name a colour if the model has
    colours.
    """

    async def settle(card: ModelCard) -> GenerateRequest:
        return _to_generate_request(body, card, await services.vocabularies.find(card))

    sent = body.model_dump_json().encode()
    generated = await make(ImagesWanted(model=body.model, body=sent, settle=settle))
    urls = generated.urls
    data = [
        ImageItem(
            b64_json=b64encode_as_string(file.content) if urls is None else None,
            url=None if urls is None else urls[file.index],
            revised_prompt=file.category,
        )
        for file in generated.files
    ]
    return ImagesResponse(
        created=generated.created,
        data=data,
        output_format=generated.rendering.image_format,
        size=f"{generated.side}x{generated.side}",
    )


def _to_generate_request(
    body: ImagesRequest, card: ModelCard, vocabulary: Vocabulary
) -> GenerateRequest:
    """The equivalent `GenerateRequest`; raises Problem if the version cannot do it."""
    category = vocabulary.find_category(body.prompt)
    if category is None:
        known = ", ".join(card.categories)
        raise Problem(422, "unknown_category", f"prompt: name one of {known}")
    color = find_color(body.prompt)
    if color is not None and not card.capabilities.get("attributes"):
        detail = f"prompt: {card.name} has no colours to choose from; leave the colour out"
        raise Problem(422, "unsupported_parameter", detail)
    wanted = {
        "category": category,
        "attributes": None if color is None else {"color": color},
        "n": body.n or 1,
        "seed": body.seed,
        "size": None if body.size == "auto" else body.size,
        "output_format": body.output_format or "png",
        "output_compression": body.output_compression,
        "response_format": body.response_format or "b64_json",
    }
    request = derived(GenerateRequest, wanted)
    check_options(request, card)
    return request
