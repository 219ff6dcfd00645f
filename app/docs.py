"""OpenAPI document and Swagger UI, served from local files: no internet access is needed."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from app.errors import MEDIA_TYPE, OPENAI, OpenAIError, ProblemDetails

STATIC = Path(__file__).parent / "static"
ERRORS = {
    "400": "Malformed request, or a host name that is not ours",
    "401": "No key, or not a valid one",
    "403": "The key lacks the scope, or a page of another origin asks",
    "404": "No such thing",
    "406": "None of the accepted media types is offered",
    "408": "The body came too slowly",
    "409": "In conflict with the present state",
    "413": "Too large",
    "415": "Wrong media type",
    "422": "Invalid request",
    "429": "Over the limit; see `Retry-After`",
    "503": "Redis, storage or model unavailable; see `Retry-After`",
    "507": "The store is full; nothing was kept",
}
PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
OPENAI_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}


def install(app: FastAPI) -> None:
    """Serve `/docs` and describe our errors instead of FastAPI's own."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Vitrine",
            swagger_js_url="/static/swagger/swagger-ui-bundle.js",
            swagger_css_url="/static/swagger/swagger-ui.css",
            swagger_favicon_url="/static/swagger/favicon-32x32.png",
        )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    # FastAPI's documented way to replace the document.
    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    def read_document() -> JSONResponse:
        # In a thread, unlike FastAPI's own route: the first call takes long.
        return JSONResponse(openapi())


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        webhooks=app.webhooks.routes,
    )
    for operations in document["webhooks"].values():
        # The error answers of webhook receivers are not specified.
        operations["post"]["responses"] = {"2XX": {"description": "Taken; not sent again."}}
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (ProblemDetails, OpenAIError):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs"), **{model.__name__: schema})
    for path, operations in document["paths"].items():
        content = OPENAI_ERROR if path.startswith(OPENAI) else PROBLEM
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)
            for status in _statuses(operation) | {s for s in responses if s in ERRORS}:
                responses[status] = {"description": ERRORS[status], "content": content}
    return document


def _statuses(operation: dict[str, Any]) -> set[str]:
    """Error statuses that follow from an operation's parameters; routes declare the others."""
    statuses = {"400", "406", "422", "429", "503"}
    places = {parameter["in"] for parameter in operation.get("parameters", [])}
    if "security" in operation:
        statuses |= {"401", "403"}
    if "path" in places:
        statuses |= {"404"}
    if "requestBody" in operation:
        statuses |= {"404", "408", "413", "415", "507"}
    return statuses
