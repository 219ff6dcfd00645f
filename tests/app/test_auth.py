"""API keys: stored as hashes, limited by scopes."""

import hashlib
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.auth import check_exposure, parse_keys
from tests.app.conftest import Serve
from tests.app.problems import assert_problem

# A link to an image is authorized by its signature.
OPEN = ("/health/", "/docs", "/openapi.json", "/static", "/images/")
JOB = "job_00000000000000000000"


def entry(scopes: str, key: str) -> str:
    return f"{scopes}:{hashlib.sha256(key.encode()).hexdigest()}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    """A service with a key for each scope."""
    scopes = {"shop-key": "generate", "owner-key": "generate+manage", "watch-key": "metrics"}
    keys = ",".join(entry(scope, key) for key, scope in scopes.items())
    return serve(api_key_hashes=keys)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(hashlib.sha256(b"owner-key").hexdigest()),
        {"Authorization": "Basic b3duZXI6a2V5"},
        {"X-API-Key": "owner-key"},
    ],
    ids=str,
)
def test_without_a_valid_key_nothing_is_served(
    guarded: TestClient, headers: dict[str, str]
) -> None:
    response = guarded.post("/generate", json={}, headers=headers)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_opens_what_its_scopes_say(guarded: TestClient) -> None:
    shop, owner = bearer("shop-key"), bearer("owner-key")
    assert guarded.post("/generate", json={}, headers=shop).status_code == 200
    assert guarded.get("/models", headers=shop).status_code == 200
    assert guarded.get("/jobs", headers=owner).status_code == 200
    assert_problem(guarded.get("/jobs", headers=shop), 403, "forbidden")
    watcher = bearer("watch-key")
    assert_problem(guarded.post("/generate", json={}, headers=watcher), 403, "forbidden")
    alias = "/models/fashion-mnist/aliases/production"
    response = guarded.put(alias, json={"version": 1}, headers=shop)
    assert_problem(response, 403, "forbidden")
    assert guarded.put(alias, json={"version": 1}, headers=owner).status_code == 200


def every_route(app: FastAPI) -> list[tuple[str, set[str]]]:
    """Path and methods of all routes; a mounted application has no methods."""
    found: list[tuple[str, set[str]]] = []
    for route in app.routes:
        included = getattr(route, "original_router", None)
        inner: list[Any] = [route] if included is None else included.routes
        found += [(each.path, set(getattr(each, "methods", None) or ())) for each in inner]
    return found


def test_every_route_outside_the_open_ones_wants_a_key(guarded: TestClient) -> None:
    app = guarded.app
    assert isinstance(app, FastAPI)
    routes = every_route(app)
    documented = guarded.get("/openapi.json").json()["paths"]
    assert set(documented) <= {path for path, _ in routes}
    closed = [
        (path, methods) for path, methods in routes if path != "/" and not path.startswith(OPEN)
    ]
    assert len(closed) >= 20
    for path, methods in closed:
        url = path.format(
            job_id=JOB,
            dataset_id="ds_00000000000000sample",
            upload_id="up_00000000000000sample",
            name="fashion-mnist",
            model="fashion-mnist",
            version=1,
            alias="production",
            file="curves.png",
        )
        assert methods, f"{path} is an application of its own"
        for method in methods:
            assert (path, guarded.request(method, url).status_code) == (path, 401)
        for method in {"HEAD", "OPTIONS"} - methods:
            response = guarded.request(method, url)
            assert (path, response.status_code) in ((path, 401), (path, 405))


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/openapi.json"])
def test_health_and_documents_are_open(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "shop.example", ""])
def test_other_machines_are_served_with_keys_only(host: str) -> None:
    with pytest.raises(ValueError, match="VITRINE_API_KEY_HASHES"):
        check_exposure(host, {})
    check_exposure(host, parse_keys(entry("generate", "key")))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_is_served_without_keys(host: str) -> None:
    check_exposure(host, {})


@pytest.mark.parametrize(
    "text",
    [
        "my-secret",
        "generate:abc",
        f"admin:{'0' * 64}",
        f":{'0' * 64}",
        f"generate:{'G' * 64}",
        f"generate:{'0' * 64}:soon",
        f"generate:{'0' * 64}:2027-02-30",
        f"generate:{'0' * 64}:",
    ],
)
def test_a_malformed_entry_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="each entry must be") as error:
        parse_keys(text)
    assert text not in str(error.value)
