"""Query parameters: what a route does not know is refused, by name."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.allowed_methods import routes_of
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry

JOB = "job_00000000000000000000"


def documented(client: TestClient) -> list[tuple[str, str, set[str]]]:
    """Method, path and query parameters of every operation in the OpenAPI document."""
    found = []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            declared: list[dict[str, Any]] = operation.get("parameters", [])
            names = {each["name"] for each in declared if each["in"] == "query"}
            found.append((method, re.sub(r"{\w+}", "1", path), names))
    return found


def test_every_documented_route_refuses_what_it_does_not_know(client: TestClient) -> None:
    found = documented(client)
    assert isinstance(client.app, FastAPI)
    shown = [route for route in routes_of(client.app) if getattr(route, "include_in_schema", False)]
    assert len(found) == len(shown) > 30
    for method, path, names in found:
        answer = client.request(method, path, params={"hue": "1"})
        if path.startswith("/v1/"):
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "hue")
            continue
        body = assert_problem(answer, 422, "invalid_request")
        assert body["errors"][0]["loc"] == ["query", "hue"]
        takes = ", ".join(sorted(names)) if names else "none"
        assert body["detail"] == f"hue: not a query parameter of this route; it takes {takes}"


def test_what_a_route_knows_is_not_refused(client: TestClient) -> None:
    query = {"type": "train", "status": "queued", "model": "m", "limit": "5", "after": JOB}
    assert client.get("/jobs", params=query).status_code == 200
    events = client.get(f"/jobs/{JOB}/events", params={"after": "1-0", "limit": "1"})
    assert_problem(events, 404, "job_not_found")  # `after` is a dependency's


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Limit=5", ["Limit"]),
        ("limit=5&=&page=2&page=3", ["", "page"]),
        ("%68ue", ["hue"]),
        ("a" * 500, ["a" * 100]),
        ("&".join(f"a{number:02d}" for number in range(50)), [f"a{n:02d}" for n in range(20)]),
    ],
)
def test_they_are_named(client: TestClient, query: str, named: list[str]) -> None:
    body = assert_problem(client.get(f"/jobs?{query}"), 422, "invalid_request")
    assert [item["loc"][1] for item in body["errors"]] == named


def test_other_refusals_come_first(serve: Serve) -> None:
    client = serve(api_key_hashes=entry("generate", "a"))
    assert_problem(client.get("/jobs?hue=1"), 401, "unauthorized")
    assert_problem(client.get("/nowhere?hue=1"), 404, "not_found")
    assert_problem(client.put("/jobs?hue=1"), 405, "method_not_allowed")
    refused = client.post("/generate?hue=1", content=b"{", headers=bearer("a"))
    assert_problem(refused, 422, "invalid_request")


def test_pages_for_people_take_anything(client: TestClient) -> None:
    for path in ("/docs", "/openapi.json", "/static/swagger/favicon-32x32.png"):
        assert client.get(f"{path}?v=2").status_code == 200
