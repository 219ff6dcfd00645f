"""Query parameters: unknown ones are refused on every documented route, as unknown fields are."""

from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.allowed_methods import answering
from app.errors import Answer, ErrorItem, problem_response

MAX_NAMED = 20  # unknown parameters in one answer
MAX_NAME = 100  # characters of each


class KnownQuery:
    """ASGI middleware: 422 for a query parameter that the route does not declare.

    A request that no route takes goes on: it is answered by 404 or 405.
    """

    def __init__(self, app: ASGIApp, *, routes: tuple[RouteContext, ...]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["query_string"]:
            request, known = Request(scope), self._known(scope)
            if known is not None and (unknown := sorted({*request.query_params} - known)):
                await _refusal(request, unknown, known)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _known(self, scope: Scope) -> set[str] | None:
        """Names that the request's route takes; None where it is not in the OpenAPI document."""
        route = answering(self.routes, scope)
        if not getattr(route, "include_in_schema", False):
            return None
        dependant: Dependant | None = getattr(route, "dependant", None)
        return None if dependant is None else query_names(dependant)


def query_names(dependant: Dependant) -> set[str]:
    """Names of the query parameters of a route and of all its dependencies."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(query_names(dependency) for dependency in dependant.dependencies))


def _refusal(request: Request, unknown: list[str], known: set[str]) -> Response:
    takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
    message = f"not a query parameter of this route; {takes}"
    items = [
        ErrorItem(loc=["query", name[:MAX_NAME]], msg=message, type="extra_forbidden")
        for name in unknown[:MAX_NAMED]
    ]
    answer = Answer(422, "invalid_request", f"{unknown[0][:MAX_NAME]}: {message}")
    return problem_response(request, answer, items)
