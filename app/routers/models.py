"""Models: versions, cards, sample sheets, weights and aliases."""

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Response

from app.auth import require
from app.dependencies import JSON, PNG, Limit, RegistryDep, ResolverDep
from app.errors import can_answer
from app.schemas import AliasTarget, ModelView, Page, VersionSummary
from worker.aliases import AliasChange
from worker.artifacts import FILE_NAME, media_type
from worker.model_versions import ModelCard
from worker.registry import ModelNotFound, Registry

router = APIRouter(prefix="/models", tags=["models"], dependencies=[Depends(require("generate"))])

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Path(pattern=NAME, examples=["fashion-mnist"])]
Version = Annotated[int, Path(ge=1, le=999_999_999, examples=[1])]
Alias = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,62}$", examples=["production"])]


@router.get("", dependencies=[JSON])
def list_models(
    registry: RegistryDep,
    limit: Limit = 20,
    after: Annotated[str | None, Query(pattern=NAME, description="A `last_id`.")] = None,
) -> Page[ModelView]:
    """All models, by name."""
    names = [name for name in registry.names() if after is None or name > after]
    data = [_view(registry, name) for name in names[:limit]]
    last_id = data[-1].name if data else None
    return Page(data=data, has_more=len(names) > limit, last_id=last_id)


@router.get("/{name}", dependencies=[JSON])
def read_model(name: Name, registry: RegistryDep) -> ModelView:
    """A model's versions, what each can do, and where its aliases point."""
    return _view(registry, name)


@router.get("/{name}/versions/{version}", dependencies=[JSON])
def read_version(name: Name, version: Version, registry: RegistryDep) -> ModelCard:
    """The model card: architecture, training, data and metrics."""
    return registry.card(name, version)


@router.get("/{name}/versions/{version}/samples", response_class=Response, dependencies=[PNG])
def read_samples(name: Name, version: Version, registry: RegistryDep) -> Response:
    """A contact sheet of samples from fixed seeds, a row for each category."""
    return Response(registry.samples(registry.card(name, version)), media_type="image/png")


@router.get("/{name}/versions/{version}/weights", response_class=Response)
def read_weights(name: Name, version: Version, registry: RegistryDep) -> Response:
    """The generator's weights, safetensors."""
    data = registry.weights(registry.card(name, version))
    headers = {"Content-Disposition": f'attachment; filename="{name}-{version}.safetensors"'}
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get("/{name}/versions/{version}/files/{file}", response_class=Response)
def read_file(
    name: Name,
    version: Version,
    file: Annotated[str, Path(pattern=FILE_NAME, examples=["neighbours.png"])],
    registry: RegistryDep,
) -> Response:
    """One of the card's `files`: training curves, nearest neighbours, metrics, TensorBoard."""
    data = registry.file(registry.card(name, version), file)
    return Response(data, media_type=media_type(file))


@router.put("/{name}/aliases/{alias}", dependencies=[Depends(require("manage")), JSON])
def point_alias(
    name: Name,
    alias: Alias,
    target: Annotated[AliasTarget, Body(openapi_examples={"first": {"value": {"version": 1}}})],
    registry: RegistryDep,
    resolver: ResolverDep,
) -> AliasChange:
    """Point an alias at a version; its history remembers where it pointed before."""
    change = registry.point(name, alias, target.version)
    resolver.forget()
    return change


@router.get("/{name}/aliases/{alias}/history", dependencies=[JSON])
def read_history(
    name: Name,
    alias: Alias,
    registry: RegistryDep,
    limit: Limit = 20,
    after: Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,8}$")] = None,
) -> Page[AliasChange]:
    """Where an alias has pointed, newest first."""
    changes = registry.history(name, alias)
    # Counted from the oldest: what is added meanwhile moves nothing.
    last = len(changes) if after is None else min(int(after) - 1, len(changes))
    first = max(last - limit, 0)
    data = changes[first:last][::-1]
    return Page(data=data, has_more=first > 0, last_id=str(first + 1) if data else None)


@router.post(
    "/{name}/aliases/{alias}/rollback",
    responses=can_answer(409),
    dependencies=[Depends(require("manage")), JSON],
)
def roll_back_alias(
    name: Name, alias: Alias, registry: RegistryDep, resolver: ResolverDep
) -> AliasChange:
    """Point an alias at where it pointed before; once more, and it goes back further."""
    change = registry.roll_back(name, alias)
    resolver.forget()
    return change


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    responses=can_answer(409),
    dependencies=[Depends(require("manage"))],
)
def delete_version(
    name: Name, version: Version, registry: RegistryDep, resolver: ResolverDep
) -> None:
    """Delete a version that no alias points to. Its number is not given again."""
    registry.delete(name, version)
    resolver.forget()


def _view(registry: Registry, name: str) -> ModelView:
    cards = registry.versions(name)
    if not cards:
        raise ModelNotFound(f"no model {name!r}")
    versions = [VersionSummary.of(card) for card in cards]
    return ModelView(name=name, versions=versions, aliases=registry.aliases(name))
