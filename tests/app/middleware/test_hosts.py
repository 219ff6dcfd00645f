"""Host and Origin checks: what a browser could do to a service without keys."""

import pytest
from fastapi.testclient import TestClient

from app.middleware.hosts import allowed_hosts
from tests.app.conftest import Serve
from tests.app.problems import assert_problem
from tests.app.test_auth import bearer, entry


@pytest.fixture
def keyless(serve: Serve) -> TestClient:
    """A service with default settings, which requires no key."""
    return serve(allowed_hosts="")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1:99",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_a_service_without_keys_answers_to_loopbacks_names(keyless: TestClient, host: str) -> None:
    assert keyless.get("/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("localhost:80:80", "[::1", "[::1]evil", "169.254.169.254", "", ":8000", "testserver"),
    ],
)
def test_and_to_no_other_name(keyless: TestClient, host: str) -> None:
    for path in ("/models", "/docs", "/metrics", "/static/swagger/swagger-ui.css", "/nowhere"):
        assert_problem(keyless.get(path, headers={"Host": host}), 400, "bad_host")
    assert_problem(keyless.post("/generate", json={}, headers={"Host": host}), 400, "bad_host")
    assert keyless.get("/health/live", headers={"Host": host}).status_code == 200


def test_configured_names_take_the_place_of_the_default(serve: Serve) -> None:
    client = serve(allowed_hosts="shop.example, *.shop.test")
    for host in ("shop.example", "shop.example:443", "a.shop.test", "a.b.shop.test"):
        assert client.get("/models", headers={"Host": host}).status_code == 200
    for host in ("localhost", "a.shop.example", "shop.test", "ashop.test", ".shop.example"):
        assert_problem(client.get("/models", headers={"Host": host}), 400, "bad_host")


def test_with_keys_any_name_will_do_unless_names_are_configured(serve: Serve) -> None:
    keys = entry("generate", "key")
    headers = {"Host": "10.0.0.7:8000", **bearer("key")}
    open_to_all = serve(api_key_hashes=keys, allowed_hosts="")
    assert open_to_all.get("/models", headers=headers).status_code == 200
    assert_problem(serve(api_key_hashes=keys).get("/models", headers=headers), 400, "bad_host")


@pytest.mark.parametrize("text", ["http://shop.example", "shop.example:80", "a b", "*shop.example"])
def test_what_is_no_name_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="VITRINE_ALLOWED_HOSTS"):
        allowed_hosts(text, "127.0.0.1", keyless=True)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://testserver:8001",
        "null",
        "",
        "http://testserver.evil",
        "ftp://testserver",
    ],
)
def test_no_page_of_another_origin_can_write(client: TestClient, origin: str) -> None:
    headers = {"Origin": origin}
    answers = [
        client.post("/generate", json={}, headers=headers),
        client.post("/jobs/train", json={}, headers=headers),
        client.post("/datasets", files={"file": b""}, headers=headers),
        client.put("/models/a/aliases/production", json={"version": 1}, headers=headers),
        client.delete("/datasets/ds_00000000000000sample", headers=headers),
    ]
    for answer in answers:
        assert_problem(answer, 403, "foreign_origin")
    # The browser refuses reads by another origin, as no answer has a CORS header.
    read = client.get("/models", headers=headers)
    assert read.status_code == 200
    assert not [name for name in read.headers if name.startswith("access-control")]


def test_the_services_own_pages_can_write(client: TestClient) -> None:
    for headers in ({"Origin": "http://testserver"}, {"Origin": "https://testserver"}, {}):
        assert client.post("/generate", json={}, headers=headers).status_code == 200


def test_with_keys_a_page_needs_one_and_its_origin_does_not_count(serve: Serve) -> None:
    client = serve(api_key_hashes=entry("generate", "key"))
    origin = {"Origin": "https://shop.example"}
    assert_problem(client.post("/generate", json={}, headers=origin), 401, "unauthorized")
    answer = client.post("/generate", json={}, headers=origin | bearer("key"))
    assert answer.status_code == 200
