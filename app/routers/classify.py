"""`POST /classify`: which category a photo shows, with calibrated probabilities and a heat map."""

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from pybase64 import b64encode_as_string
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from app.classification.classifier_cache import ClassifierCache
from app.dependencies import JSON, AbandonedDep, ServicesDep, require
from app.errors import Problem, can_answer
from models.classification.heat_map import draw_heat, heat_of
from models.classification.photo_classifier import PhotoClassifier, squared
from models.imaging.encoding import encode
from models.imaging.pixels import Pixels, resize

router = APIRouter(tags=["classify"], dependencies=[Depends(require("generate"))])

FIELDS = frozenset({"image", "model", "dataset", "top_k", "heatmap"})
MAX_SIDE = 512  # px; photos of data sets are not stored larger
MAP_SIDE = 448  # px, of a heat map


class CategoryProbability(BaseModel):
    """How likely a photo shows a category; over all categories the sum is 1."""

    category: str
    probability: float


class ClassifyTiming(BaseModel):
    """Duration of each stage in milliseconds."""

    decode_ms: float
    compute_ms: float


class ClassifyResponse(BaseModel):
    """What a photo shows, and whose classifier says so."""

    model: str | None
    model_version: int | None
    dataset: str | None
    data: list[CategoryProbability] = Field(description="Likeliest first.")
    heatmap: str | None = Field(description="A PNG in base64, where it was asked for.")
    timing: ClassifyTiming


@dataclass(frozen=True)
class Options:
    """The fields of the form beside the photo."""

    model: str | None
    dataset: str | None
    top_k: int | None
    heatmap: bool


async def options(
    request: Request,
    model: Annotated[
        str | None, Form(max_length=140, description="`name`, `name@alias` or `name:version`.")
    ] = None,
    dataset: Annotated[
        str | None,
        Form(pattern=r"^ds_[0-9a-z]{20}$", description="A data set, in place of a model."),
    ] = None,
    top_k: Annotated[
        int | None, Form(ge=1, le=1000, description="Categories at most; all when absent.")
    ] = None,
    heatmap: Annotated[
        bool, Form(description="Show which parts of the photo speak for the first category.")
    ] = False,
) -> Options:
    """The options; refuses fields that the route does not take."""
    if {*await request.form()} - FIELDS:  # parsed already
        known = ", ".join(sorted(FIELDS))
        raise Problem(422, "invalid_request", f"A field is unknown; known are {known}.")
    if model is not None and dataset is not None:
        raise Problem(422, "invalid_request", "dataset: give either model or dataset")
    return Options(model, dataset, top_k, heatmap)


@router.post(
    "/classify",
    responses=can_answer(409),
    dependencies=[JSON],
    form_limits={"max_files": 1, "max_fields": 8, "max_part_size": 4096},
)
async def classify(
    image: Annotated[UploadFile, File(description="A photo, of a format as in a data set.")],
    options: Annotated[Options, Depends(options)],
    services: ServicesDep,
    abandoned: AbandonedDep,
) -> ClassifyResponse:
    """Name the category that a photo shows, likeliest first, with calibrated probabilities.

    The classifier is that of a model version, by default of the default model, or of a data set. Of
    photos that it names with a probability of 0.8, about four in five are right. The heat map
    (Grad-CAM, PNG) is the photo in a square, bright where it speaks for the first category.
    """
    card = None
    if options.dataset is None:
        card = await services.resolver.find(options.model)
        classifier = await run_in_threadpool(services.classifiers.of_version, card)
    else:
        classifier = await run_in_threadpool(services.classifiers.of_dataset, options.dataset)
    began = time.perf_counter()
    decode = services.photo_importer.decode
    pixels = await run_in_threadpool(decode, image.file, MAX_SIDE, abandoned)
    decoded = time.perf_counter()
    found, drawn = await run_in_threadpool(
        _classified, services.classifiers, classifier, pixels, options
    )
    return ClassifyResponse(
        model=None if card is None else card.name,
        model_version=None if card is None else card.version,
        dataset=options.dataset,
        data=found,
        heatmap=drawn,
        timing=ClassifyTiming(
            decode_ms=round(1000 * (decoded - began), 2),
            compute_ms=round(1000 * (time.perf_counter() - decoded), 2),
        ),
    )


def _classified(
    cache: ClassifierCache, classifier: PhotoClassifier, pixels: Pixels, options: Options
) -> tuple[list[CategoryProbability], str | None]:
    """The categories, likeliest first, and the heat map of the first one as base64."""
    maps = cache.look(pixels)
    probabilities = classifier.probabilities_of(maps)[0]
    order = probabilities.argsort(descending=True, stable=True).tolist()
    found = [
        CategoryProbability(
            category=classifier.categories[label], probability=round(float(probabilities[label]), 6)
        )
        for label in order[: options.top_k]
    ]
    if not options.heatmap:
        return found, None
    photo = resize(squared(pixels), (MAP_SIDE, MAP_SIDE))
    drawn = draw_heat(photo, heat_of(maps[0], classifier.weights_of(order[0])))
    return found, b64encode_as_string(encode(drawn, "png"))
