"""The access log: one line for each request, with its id and nothing that is secret."""

import io
import json
import logging
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.app.conftest import Serve
from tests.app.test_auth import bearer, entry


def lines(written: io.StringIO, logger: str) -> list[dict[str, Any]]:
    entries = map(json.loads, written.getvalue().splitlines())
    return [line for line in entries if line["logger"] == logger]


def test_each_request_has_one_line(client: TestClient, written: io.StringIO) -> None:
    answer = client.get("/models/fashion-mnist", headers={"X-Request-Id": "mine"})
    client.post("/generate", json={"n": 0})
    client.get("/nowhere/at/all")
    first, second, third = lines(written, "app.access")
    assert first["request_id"] == "mine"
    assert (first["method"], first["route"], first["status"]) == ("GET", "/models/{name}", 200)
    assert first["bytes"] == len(answer.content)
    assert 0 < first["duration_ms"] < 10_000
    assert (second["route"], second["status"]) == ("/generate", 422)
    assert second["request_id"].startswith("req_")
    assert (third["route"], third["status"]) == ("none", 404)


def test_what_a_route_says_carries_the_id_too(client: TestClient, written: io.StringIO) -> None:
    def fault() -> None:
        logging.getLogger("app.fault").warning("in a thread of its own")
        raise ZeroDivisionError

    app = client.app
    assert isinstance(app, FastAPI)
    app.get("/fault")(fault)
    answer = client.get("/fault")
    (told,) = lines(written, "app.fault")
    (access,) = lines(written, "app.access")
    assert told["request_id"] == access["request_id"] == answer.headers["x-request-id"]
    assert access["status"] == 500


def test_nothing_secret_and_nothing_made_up_is_written(serve: Serve, written: io.StringIO) -> None:
    client = serve(api_key_hashes=entry("generate", "the-key"))
    client.get("/models/secret-path?secret-query=1", headers=bearer("the-key"))
    client.post("/generate", json={"metadata": {"a": "secret-body"}}, headers=bearer("the-key"))
    client.request("SECRET-METHOD", "/models", headers=bearer("secret-key"))
    client.get("/models", headers={"X-Request-Id": "secret id\tof mine"})
    assert len(lines(written, "app.access")) == 4
    ours = [line for line in written.getvalue().splitlines() if "httpx" not in line]
    text = "".join(ours).lower()
    assert "secret" not in text
    assert "the-key" not in text
