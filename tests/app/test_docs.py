"""The OpenAPI document and the page that shows it."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.wire import listening
from worker.registry.bundled_models import add_sample_dataset
from worker.storage import Storage

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
OPENAI = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    body: dict[str, Any] = client.get("/openapi.json").json()
    return body


def references(value: Any) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(value, list):
        return set().union(*map(references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(references, value.values()))


def examples(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Method, path with its example parameters filled in, and body of each documented example."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            named = content.get("application/json", {}).get("examples", {})
            for parameter in operation.get("parameters", []):
                values = parameter.get("examples") or parameter["schema"].get("examples") or [None]
                path = path.replace(f"{{{parameter['name']}}}", str(values[0]))
            found += [(method, path, example["value"]) for example in named.values()]
    return found


def test_the_page_needs_no_files_but_ours(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in re.sub(r"window\.location\.\w+", "", page.text).replace("http-equiv", "")
    files = re.findall(r'(?:href|src|url)\s*[=:]\s*["\']([^"\']+)', page.text)
    assert len(files) == 4
    for file in files:
        response = client.get(file)
        assert response.status_code == 200
        assert len(response.content) > 500


def test_the_root_leads_to_the_page(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_the_document_is_sound(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Vitrine"
    schemas = document["components"]["schemas"]
    prefix = "#/components/schemas/"
    assert {ref.removeprefix(prefix) for ref in references(document)} <= set(schemas)
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for path, path_operations in document["paths"].items():
        for operation in path_operations.values():
            declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"]
            assert operation["description"]
            assert any(status.startswith("2") for status in operation["responses"])


def test_every_operation_documents_errors_as_problems(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            errors = {s: r for s, r in operation["responses"].items() if s[0] in "45"}
            assert set(errors) >= {"400", "503"}
            assert ("401" in errors) is not path.startswith(("/health", "/images"))
            assert ("413" in errors) is ("requestBody" in operation)
            for response in errors.values():
                assert response["content"] == (OPENAI if path.startswith("/v1/") else PROBLEM)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_what_receivers_of_webhooks_get_is_documented(document: dict[str, Any]) -> None:
    operation = document["webhooks"]["job-ended"]["post"]
    headers = {parameter["name"] for parameter in operation["parameters"]}
    assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/JobView"}
    assert list(operation["responses"]) == ["2XX"]


def test_the_problem_schema_is_what_is_sent(client: TestClient, document: dict[str, Any]) -> None:
    sent = client.get("/nowhere").json()
    assert set(sent) == set(document["components"]["schemas"]["ProblemDetails"]["properties"])


def test_every_documented_example_runs(
    client: TestClient, document: dict[str, Any], storage: Storage
) -> None:
    add_sample_dataset(storage)
    found = examples(document)
    assert {path for _, path, _ in found} == {
        *("/generate", "/v1/images/generations"),
        *("/jobs/train", "/jobs/nas", "/jobs/generate", "/jobs/prepare"),
        *("/models/fashion-mnist/aliases/production", "/models/fashion-mnist/synonyms"),
    }
    for method, path, body in found:
        response = client.request(method, path, json=body)
        assert 200 <= response.status_code < 300, (path, body, response.text)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/generate", "POST"),
        ("/jobs/train", "POST"),
        ("/models/fashion-mnist/versions/1", "DELETE, GET, HEAD"),
        ("/datasets", "GET, HEAD, POST"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_all_right_ones(client: TestClient, path: str, methods: str) -> None:
    response = client.request("PATCH", path)
    assert response.status_code == 405
    assert sorted(response.headers["allow"].split(", ")) == methods.split(", ")


def test_errors_are_answered_without_the_document(client: TestClient) -> None:
    assert isinstance(client.app, FastAPI)
    assert client.get("/jobs/nope").status_code == 404
    assert client.get("/jobs/train").status_code == 405
    assert client.app.openapi_schema is None


def test_a_template_is_no_path(client: TestClient) -> None:
    assert client.get("/jobs/{job_id}").status_code == 404


def test_the_document_is_built_while_others_are_served(client: TestClient) -> None:
    slowest, host = 0.0, {"Host": "testserver"}
    with listening(client.app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        http.get("/health/live")
        with ThreadPoolExecutor(1) as pool:
            document = pool.submit(httpx.get, f"{http.base_url}/openapi.json", headers=host)
            while not document.done():
                began = time.monotonic()
                assert http.get("/health/live").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
        assert document.result().json()["info"]["title"] == "Vitrine"
    assert slowest < 0.1
