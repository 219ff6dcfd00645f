"""Routes at a path: the one that answers a request, and the methods that the path allows.

Starlette reports the methods of the first matching route, but several routes may match a path.
"""

from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import Match
from starlette.types import Scope


def routes_of(app: FastAPI) -> tuple[RouteContext, ...]:
    """All routes, also those of included routers, in the order in which they are matched."""
    return tuple(iter_route_contexts(app.routes))


def answering(routes: Iterable[RouteContext], scope: Scope) -> RouteContext | None:
    """The route that the router will choose; None where it answers 404 or 405."""
    return next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)


def methods_of(app: FastAPI, path: str) -> list[str]:
    """Methods of all routes at a path; an exact match precedes templates."""
    routes = [route for route in routes_of(app) if route.path_regex.match(path)]
    exact = [route for route in routes if _is_literal(route, path)]
    methods = {method for route in exact or routes for method in route.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def is_exact(app: FastAPI, path: str) -> bool:
    """Whether a route has this very path, so that no part of it is a parameter."""
    return any(_is_literal(route, path) for route in routes_of(app))


def _is_literal(route: RouteContext, path: str) -> bool:
    return route.path == path and not route.param_convertors
