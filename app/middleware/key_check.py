"""API keys: the key and its scope are checked by a request's head, before its body is read."""

from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.allowed_methods import answering
from app.auth import ApiKeys, ScopeRule, authorize, sent_key
from app.error_handlers import error_response
from app.errors import Problem
from app.middleware.headers import first_headers, text_of


class KeyCheck:
    """ASGI middleware: 401 and 403 by the `ScopeRule`s among the dependencies of the route.

    A request that no route takes goes on without a key: it is answered by 404 or 405.
    """

    def __init__(self, app: ASGIApp, *, routes: tuple[RouteContext, ...], keys: ApiKeys) -> None:
        self.app = app
        self.routes = routes
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http" and self.keys:
                self._check(scope)
        except Problem as problem:
            await error_response(Request(scope), problem)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        route = answering(self.routes, scope)
        dependant: Dependant | None = getattr(route, "dependant", None)
        sent = sent_key(text_of(first_headers(scope), b"authorization"))
        for rule in () if dependant is None else rules_of(dependant):
            authorize(self.keys, sent, *rule.allowed)


def rules_of(dependant: Dependant) -> Iterator[ScopeRule]:
    """The rules among a route's dependencies, those of its router included."""
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, ScopeRule):
            yield dependency.call
