"""HEAD, which every GET route answers."""

import io
import json

import pytest
from fastapi.testclient import TestClient

from tests.app.test_bad_inputs import MODEL, NO_JOB
from tests.wire import connect, listening, received, statuses

PATHS = [
    *("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/jobs"),
    *("/models", f"{MODEL}/versions/1/samples", f"/jobs/{NO_JOB}", "/nowhere", "/generate"),
    "/static/swagger/favicon-32x32.png",
]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_as_get_is_without_a_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_head_gives_the_length_and_keeps_the_connection(client: TestClient) -> None:
    length = b"content-length: %d\r\n" % len(client.get("/health/live").content)
    head = b"HEAD /health/live HTTP/1.1\r\nHost: testserver\r\n\r\n"
    with listening(client.app) as port, connect(port) as wire:
        wire.sendall(head + head.replace(b"HEAD", b"GET"))
        answer, closed = received(wire, quiet_s=1)
    assert (statuses(answer), closed, answer.count(length)) == ([200, 200], False, 2)
    assert answer.count(b'{"status":"ok"}') == 1


def test_head_of_an_endless_answer_ends(client: TestClient, dataset_id: str) -> None:
    job = {"dataset": dataset_id, "model": "m", "resolution": 28}
    url = client.post("/jobs/train", json=job).json()["links"]["events"]
    answer = client.head(url, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_the_access_log_has_the_method_and_the_route(
    client: TestClient, written: io.StringIO
) -> None:
    client.head(f"{MODEL}/versions/1")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    (line,) = (line for line in lines if line.get("method") == "HEAD")
    assert (line["route"], line["status"]) == ("/models/{name}/versions/{version}", 200)
    assert line["bytes"] == 0
