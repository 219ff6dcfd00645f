"""`/models`: model versions, cards, sample sheets, weights and aliases."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Response
from fastapi.openapi.models import Example

from app.dependencies import JSON, PNG, Limit, ServicesDep, require
from app.errors import Problem, can_answer
from app.schemas import (
    AliasTarget,
    ModelDetails,
    ModelView,
    Page,
    SynonymsByCategory,
    VersionSummary,
)
from worker.ledger.artifacts import FILE_NAME, media_type
from worker.registry.aliases import AliasChange
from worker.registry.cards import name_of
from worker.registry.model_versions import ModelCard
from worker.registry.registry import ModelNotFound, Registry

router = APIRouter(prefix="/models", tags=["models"])

GENERATE = Depends(require("generate"))
MANAGE = Depends(require("manage"))

DEFAULT_MODEL = (
    "This is the service's default model: set VITRINE_DEFAULT_MODEL to another one first."
)
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Path(pattern=NAME, examples=["fashion-mnist"])]
Version = Annotated[int, Path(ge=1, le=999_999_999, examples=[1])]
Alias = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,62}$", examples=["production"])]
SYNONYMS_EXAMPLE: dict[str, Example] = {
    "several languages": {"value": {"Dress": ["gown", "Kleid", "连衣裙"]}}
}


@router.get("", dependencies=[GENERATE, JSON])
def list_models(
    services: ServicesDep,
    limit: Limit = 20,
    after: Annotated[str | None, Query(pattern=NAME, description="A `last_id`.")] = None,
) -> Page[ModelView]:
    """All models, by name."""
    names = [name for name in services.registry.names() if after is None or name > after]
    data = [_listed(services.registry, name) for name in names[:limit]]
    last_id = data[-1].name if data else None
    return Page(data=data, has_more=len(names) > limit, last_id=last_id)


@router.get("/{name}", dependencies=[GENERATE, JSON])
def read_model(name: Name, services: ServicesDep) -> ModelDetails:
    """A model's versions, what each can do, where its aliases point, and its synonyms."""
    synonyms = services.registry.synonyms.read(name)
    return ModelDetails(**vars(_view(services.registry, name)), synonyms=synonyms)


@router.put("/{name}/synonyms", dependencies=[MANAGE, JSON])
def replace_synonyms(
    name: Name,
    synonyms: Annotated[SynonymsByCategory, Body(openapi_examples=SYNONYMS_EXAMPLE)],
    services: ServicesDep,
) -> dict[str, list[str]]:
    """Replace the words that name the model's categories in a prompt, beside their own names.

    All versions share them. Each belongs to one category. They come before the built-in words of
    several languages, and count in `POST /v1/images/generations`.
    """
    versions = _view(services.registry, name).versions
    categories = list(dict.fromkeys(each for part in versions for each in part.categories))
    kept = services.registry.synonyms.replace(name, categories, synonyms)
    services.vocabularies.forget()
    return kept


@router.get("/{name}/versions/{version}", dependencies=[GENERATE, JSON])
def read_version(name: Name, version: Version, services: ServicesDep) -> ModelCard:
    """The model card: architecture, training, data and metrics."""
    return services.registry.card(name, version)


@router.get(
    "/{name}/versions/{version}/samples", response_class=Response, dependencies=[GENERATE, PNG]
)
def read_samples(name: Name, version: Version, services: ServicesDep) -> Response:
    """A contact sheet of samples from fixed seeds, a row for each category."""
    return Response(
        services.registry.samples(services.registry.card(name, version)), media_type="image/png"
    )


@router.get("/{name}/versions/{version}/weights", response_class=Response, dependencies=[GENERATE])
def read_weights(name: Name, version: Version, services: ServicesDep) -> Response:
    """The generator's weights, safetensors."""
    data = services.registry.weights(services.registry.card(name, version))
    headers = {"Content-Disposition": f'attachment; filename="{name}-{version}.safetensors"'}
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/{name}/versions/{version}/files/{file}", response_class=Response, dependencies=[GENERATE]
)
def read_file(
    name: Name,
    version: Version,
    file: Annotated[str, Path(pattern=FILE_NAME, examples=["neighbours.png"])],
    services: ServicesDep,
) -> Response:
    """One of the card's `files`: training curves, nearest neighbours, metrics, TensorBoard."""
    data = services.registry.file(services.registry.card(name, version), file)
    return Response(data, media_type=media_type(file))


@router.put("/{name}/aliases/{alias}", dependencies=[MANAGE, JSON])
def point_alias(
    name: Name,
    alias: Alias,
    target: Annotated[AliasTarget, Body(openapi_examples={"first": {"value": {"version": 1}}})],
    services: ServicesDep,
) -> AliasChange:
    """Point an alias at a version; its history keeps the previous ones."""
    change = services.registry.point(name, alias, target.version)
    services.resolver.forget()
    return change


@router.get("/{name}/aliases/{alias}/history", dependencies=[GENERATE, JSON])
def read_history(
    name: Name,
    alias: Alias,
    services: ServicesDep,
    limit: Limit = 20,
    after: Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,8}$")] = None,
) -> Page[AliasChange]:
    """The versions that an alias has pointed to, newest first."""
    changes = services.registry.history(name, alias)
    # Cursors count from the oldest change, so that new changes do not shift the pages.
    last = len(changes) if after is None else min(int(after) - 1, len(changes))
    first = max(last - limit, 0)
    data = changes[first:last][::-1]
    return Page(data=data, has_more=first > 0, last_id=str(first + 1) if data else None)


@router.post(
    "/{name}/aliases/{alias}/rollback",
    responses=can_answer(409),
    dependencies=[MANAGE, JSON],
)
def roll_back_alias(
    name: Name,
    alias: Alias,
    services: ServicesDep,
) -> AliasChange:
    """Point an alias back at its previous version; each further call goes back one more."""
    change = services.registry.roll_back(name, alias)
    services.resolver.forget()
    return change


@router.delete(
    "/{name}/aliases/{alias}",
    status_code=204,
    responses=can_answer(409),
    dependencies=[MANAGE],
)
def delete_alias(name: Name, alias: Alias, services: ServicesDep) -> None:
    """Delete an alias. A rollback sets it again, as it was before."""
    services.registry.delete_alias(name, alias)
    services.resolver.forget()


@router.delete("/{name}", status_code=204, responses=can_answer(409), dependencies=[MANAGE])
def delete_model(name: Name, services: ServicesDep) -> None:
    """Delete a model for good: all its versions, its aliases and their history.

    It must be neither the default model nor that of a job that has not ended. A shipped model that
    was deleted does not come back.
    """
    if name == name_of(services.settings.default_model):
        raise Problem(409, "model_in_use", DEFAULT_MODEL)
    services.registry.delete_model(name)
    services.resolver.forget()
    services.sampler.engines.forget_deleted()


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    responses=can_answer(409),
    dependencies=[MANAGE],
)
def delete_version(
    name: Name,
    version: Version,
    services: ServicesDep,
) -> None:
    """Delete a version that no alias points to and no job needs. Its number is not used again."""
    services.registry.delete(name, version)
    services.resolver.forget()
    services.sampler.engines.forget_deleted()


def _view(registry: Registry, name: str) -> ModelView:
    view = _listed(registry, name)
    if not view.versions:
        raise ModelNotFound(f"no model {name!r}")
    return view


def _listed(registry: Registry, name: str) -> ModelView:
    """A model without its damaged versions; without any version if all are damaged."""
    versions = [VersionSummary.of(card) for card in registry.versions(name)]
    return ModelView(name=name, versions=versions, aliases=registry.aliases(name))
