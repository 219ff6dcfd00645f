"""API keys: known by their hashes, limited by their scopes."""

import hashlib

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.auth import check_exposure, parse_keys
from tests.app.conftest import Serve
from tests.app.problems import assert_problem

OPEN = ("/health/", "/docs", "/openapi.json", "/static")
JOB = "job_00000000000000000000"


def entry(scopes: str, key: str) -> str:
    return f"{scopes}:{hashlib.sha256(key.encode()).hexdigest()}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    """A service with a key for each scope."""
    keys = ",".join([entry("generate", "shop-key"), entry("generate+manage", "owner-key")])
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
    alias = "/models/fashion-mnist/aliases/production"
    response = guarded.put(alias, json={"version": 1}, headers=shop)
    assert_problem(response, 403, "forbidden")
    assert guarded.put(alias, json={"version": 1}, headers=owner).status_code == 200


def test_every_route_outside_the_open_ones_wants_a_key(guarded: TestClient) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    closed = [
        (method, path)
        for path, operations in paths.items()
        for method in operations
        if not path.startswith(OPEN)
    ]
    assert len(closed) >= 16
    # Routes that the document leaves out are none but the open ones.
    app = guarded.app
    assert isinstance(app, FastAPI)
    own = [path for route in app.routes if (path := getattr(route, "path", None))]
    assert all(path.startswith(OPEN) for path in own)
    included = [route.original_router for route in app.routes if hasattr(route, "original_router")]
    assert sum(len(router.routes) for router in included) == sum(map(len, paths.values()))
    for method, path in closed:
        url = path.format(
            job_id=JOB,
            dataset_id="ds_00000000000000sample",
            upload_id="up_00000000000000sample",
            name="fashion-mnist",
            version=1,
            alias="production",
            file="curves.png",
        )
        response = guarded.request(method, url)
        assert (path, response.status_code) == (path, 401)


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
    ["my-secret", "generate:abc", f"admin:{'0' * 64}", f":{'0' * 64}", f"generate:{'G' * 64}"],
)
def test_a_malformed_entry_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="each entry must be") as error:
        parse_keys(text)
    assert text not in str(error.value)
